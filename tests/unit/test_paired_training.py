"""FGSM training and logit pairing: examples in closed form, what shares a batch, and the loss by hand."""

import copy

import pytest
import torch
from torch.nn import functional

from redoubt import registry
from redoubt.preprocessing._layers import Standardised

WEIGHT = torch.tensor([[1.0, -2.0, 0.5, 0.0], [-1.0, 1.0, 2.0, 0.0]])
IMAGES = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.05, 0.98, 0.5, 0.2]]).view(2, 1, 2, 2)
SIGN = torch.tensor([[-1.0, 1.0, 1.0, 0.0], [1.0, -1.0, -1.0, 0.0]]).view(2, 1, 2, 2)  # of the loss, labels 0 and 1
LABELS = torch.tensor([0, 1])


def made(name, network, **values):
    return registry.method("defenses", name).Defense(registry.parameters("defenses", name, values), network)


def normed():
    torch.manual_seed(3)
    layers = [torch.nn.Flatten(), torch.nn.Linear(4, 30), torch.nn.BatchNorm1d(30), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(30, 2))


class Counted(torch.nn.Module):
    """A network that keeps what it is given."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, inputs):
        self.seen.append(inputs.detach().clone())
        return self.network(inputs)


# -- FGSM training ----------------------------------------------------------------------------------------------------


def test_fgsm_examples_have_a_closed_form(affine):
    network = affine(WEIGHT, torch.zeros(2))
    found = made("fgsm-training", network, epsilon=0.1, clean=0.0).examples(IMAGES, LABELS)
    assert torch.allclose(found, (IMAGES + 0.1 * SIGN).clamp(0, 1), atol=1e-6)
    again = made("fgsm-training", network, epsilon=0.1, clean=0.0).examples(IMAGES, LABELS)
    assert torch.equal(found, again)  # nothing is drawn
    wrong = torch.tensor([1, 0])
    assert network(IMAGES).argmax(1).tolist() == [1, 1]
    by_label = made("fgsm-training", network, epsilon=0.1, clean=0.0).examples(IMAGES, wrong)
    by_prediction = made("fgsm-training", network, epsilon=0.1, clean=0.0, label="predicted").examples(IMAGES, wrong)
    assert torch.allclose(by_label, (IMAGES - 0.1 * SIGN).clamp(0, 1), atol=1e-6)
    assert torch.equal(by_prediction[0], by_label[0]) and torch.equal(by_prediction[1], found[1])


@pytest.mark.parametrize(("share", "kept"), [(None, 1), (0.0, 0), (0.5, 1), (1.0, 2)])
def test_fgsm_training_keeps_a_share_clean(share, kept, affine, ask):
    network = Counted(affine(WEIGHT, torch.zeros(2)))
    values = {"epsilon": 0.1} if share is None else {"epsilon": 0.1, "clean": share}
    loss, logits = ask(made("fgsm-training", network, **values), IMAGES, LABELS)
    assert len(network.seen) == (1 if kept == 2 else 2)  # one pass that crafts, one that trains
    expected = torch.cat([IMAGES[:kept], (IMAGES + 0.1 * SIGN).clamp(0, 1)[kept:]])
    assert torch.allclose(network.seen[-1], expected, atol=1e-6)
    assert loss.item() == pytest.approx(functional.cross_entropy(network(expected), LABELS).item(), rel=1e-5)
    assert torch.allclose(logits, network(expected), atol=1e-5)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["fgsm-training", "logit-pairing"])
def test_crafting_uses_its_mode_and_training_updates_the_norms_once(name, mode, ask):
    network, seen = normed().train(), []
    network[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    ask(
        made(name, network, mode=mode, **({"clean": 0.0} if name == "fgsm-training" else {"label": "true"})),
        IMAGES,
        LABELS,
    )
    crafted = 1 if name == "fgsm-training" else 10
    assert seen == [mode == "train"] * crafted + [True]
    assert network[2].num_batches_tracked.item() == 1


# -- logit pairing ----------------------------------------------------------------------------------------------------


def test_defaults_of_logit_pairing():
    found = registry.parameters("defenses", "logit-pairing", {})
    assert found.weight == 0.5 and found.label == "predicted" and found.random_start
    assert "clean" not in type(found).model_fields


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_logit_pairing_on_an_affine_network_has_a_closed_form(weight, affine, ask):
    network = Counted(affine(WEIGHT, torch.tensor([0.3, 0.0])))
    images = torch.full((2, 1, 2, 2), 0.5)
    values = {"epsilon": 0.1, "steps": 3, "step_size": 0.04, "random_start": False, "label": "true", "weight": weight}
    before = images.clone()
    loss, logits = ask(made("logit-pairing", network, **values), images, LABELS)
    moved = images + 0.1 * SIGN
    assert torch.equal(images, before) and len(network.seen) == 4
    assert torch.allclose(network.seen[-1], torch.cat([images, moved]), atol=1e-6)
    assert torch.allclose(logits, network(images), atol=1e-6)
    # The rows of WEIGHT times 0.1 SIGN: the gaps of the logits, images by classes.
    gaps = torch.tensor([[-0.1 - 0.2 + 0.05, 0.1 + 0.1 + 0.2], [0.1 + 0.2 - 0.05, -0.1 - 0.1 - 0.2]])
    pairing = gaps.square().sum().item() / 4
    entropy = sum(functional.cross_entropy(network(part), LABELS).item() for part in (images, moved)) / 2
    assert loss.item() == pytest.approx(entropy + weight * pairing, rel=1e-5)


def test_pairs_share_one_pass_and_its_statistics(ask):
    network = normed().train()
    other = copy.deepcopy(network)
    values = {"epsilon": 0.1, "steps": 1, "step_size": 0.1, "random_start": False, "label": "true", "mode": "eval"}
    _, logits = ask(made("logit-pairing", network, **values), IMAGES, LABELS)
    joint = Counted(copy.deepcopy(other))
    ask(made("logit-pairing", joint, **values), IMAGES, LABELS)
    both = other(joint.seen[-1])
    assert len(both) == 4 and torch.allclose(logits, both[:2], atol=1e-6)
    assert torch.allclose(network[2].running_mean, other[2].running_mean)
    assert not torch.allclose(logits, other(IMAGES), atol=1e-3)


def test_both_are_measured_on_images(affine, ask, setting):
    layer = Standardised(1)
    layer.mean.fill_(0.4)
    layer.std.fill_(0.2)
    images = torch.full((2, 1, 2, 2), 0.5)
    for name, values in (("fgsm-training", {"clean": 0.0}), ("logit-pairing", {"steps": 1, "random_start": False})):
        network = Counted(affine(WEIGHT, torch.tensor([0.3, 0.0])))
        step = {"step_size": 0.1, "label": "true"} if name == "logit-pairing" else {}
        defense = made(name, network, epsilon=0.1, **values, **step)
        defense.begin(setting(layer, (1, 2, 2)))
        ask(defense, layer(images), LABELS)
        assert torch.allclose(network.seen[-1][-2:], layer(images + 0.1 * SIGN), atol=1e-5)


def test_the_gap_shrinks_with_its_weight(mlp, digit_images, trainer):
    inputs, labels = mlp.preprocessing(digit_images[0][:200]), digit_images[1][:200]
    gaps = []
    for weight in (0.0, 5.0):
        network = copy.deepcopy(mlp.network)
        values = {"epsilon": 0.1, "steps": 2, "step_size": 0.06, "weight": weight}
        schedule = {"epochs": 6, "optimizer": "adam", "learning_rate": 0.001}
        made_by = trainer(network, "logit-pairing", values, inputs, labels, layer=mlp.preprocessing, **schedule)
        made_by.run()
        examples = registry.method("defenses", "pgd-training").Defense(
            registry.parameters("defenses", "pgd-training", {"epsilon": 0.1, "steps": 5, "step_size": 0.04}), network
        )
        examples.pixels = made_by.defense.pixels
        torch.manual_seed(0)
        moved = examples.inputs(examples.examples(digit_images[0][:200], labels))
        gaps.append(float((network(inputs) - network(moved)).square().mean().detach()))
    assert gaps[1] < 0.6 * gaps[0]
