"""Adversarial training: the examples against the PGD attack, their ball, modes, and what training is left with."""

import copy

import pytest
import torch

from redoubt import registry
from redoubt.defenses import pgd_training
from redoubt.defenses.interface import Batch, Moment, Setting
from redoubt.evaluation.craft import craft
from redoubt.models.classifier import Classifier
from redoubt.preprocessing._layers import Standardised
from redoubt.study.entries.model import Training


def made(network, layer=None, shape=(1, 28, 28), **values):
    defense = pgd_training.Defense(registry.parameters("defenses", "pgd-training", values), network)
    if layer is not None:
        schedule = Training(epochs=1, batch_size=10, learning_rate=0.1)
        defense.begin(Setting(layer, shape, 10, schedule, 100, 10, torch.device("cpu")))
    return defense


def normed(seed=3):
    """Return a small network with batch norm and dropout."""
    torch.manual_seed(seed)
    layers = [torch.nn.Flatten(), torch.nn.Linear(16, 30), torch.nn.BatchNorm1d(30), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Dropout(0.3), torch.nn.Linear(30, 3))


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    return torch.rand(40, 1, 4, 4, generator=draw), torch.arange(40) % 3


def test_defaults_are_those_of_the_public_code():
    options = registry.parameters("defenses", "pgd-training", {})
    assert (255 * options.epsilon, options.steps, 255 * options.step_size) == (8.0, 10, 2.0)
    assert options.random_start and options.mode == "train"


def test_examples_on_an_affine_network_have_a_closed_form(affine):
    # Two classes: every step follows the sign of the other class's row less the own one.
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0], [-1.0, 1.0, 2.0, 0.0]])
    network = affine(weight, torch.zeros(2))
    images = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.05, 0.98, 0.5, 0.2]]).view(2, 1, 2, 2)
    labels = torch.tensor([0, 1])
    defense = made(network, epsilon=0.1, steps=3, step_size=0.04, random_start=False)
    sign = torch.tensor([[-1.0, 1.0, 1.0, 0.0], [1.0, -1.0, -1.0, 0.0]]).view(2, 1, 2, 2)
    expected = (images + 0.1 * sign).clamp(0, 1)
    assert torch.allclose(defense.examples(images, labels), expected, atol=1e-6)
    shorter = made(network, epsilon=0.1, steps=2, step_size=0.04, random_start=False).examples(images, labels)
    assert torch.allclose(shorter, (images + 0.08 * sign).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_examples_are_those_of_the_attack(name, request, digit_images):
    model = request.getfixturevalue(name)
    images, labels = (part[:40] for part in digit_images)
    settings = {"epsilon": 0.1, "steps": 8, "step_size": 0.03}
    found = made(model.network, model.preprocessing, random_start=False, **settings).examples(images, labels)
    options = {"steps": 8, "relative_step_size": 0.3, "random_start": False, "stop": False, "loss": "cross-entropy"}
    attack = craft("pgd", model, images, labels, epsilons=[0.1], **options)
    kept = (found - attack.images).abs().flatten(1).amax(1) < 1e-4
    assert kept.float().mean() > 0.9  # a sign may turn on the last bit
    fooled = (model(found).argmax(1) != labels).float().mean()
    assert fooled == pytest.approx(attack.rows["success"].mean(), abs=0.06)


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("layer", [False, True])
def test_examples_stay_in_the_ball_and_the_box(random_start, layer, batch):
    images, labels = batch
    images = (images * 1.4 - 0.2).clamp(0, 1)
    standard = Standardised(1)
    standard.mean.fill_(0.4)
    standard.std.fill_(0.2)
    defense = made(
        normed().train(), standard if layer else None, (1, 4, 4), epsilon=0.1, step_size=0.07, random_start=random_start
    )
    found = defense.examples(images, labels)
    moved = (found - images).abs()
    assert found.min() >= 0 and found.max() <= 1 and moved.max() <= 0.1 + 1e-6
    assert (moved > 0.09).float().mean() > 0.3 and not found.requires_grad


def test_the_start_is_uniform_in_the_ball_and_drawn_again(batch, affine):
    images = torch.full((300, 1, 4, 4), 0.5)
    labels = torch.zeros(300, dtype=torch.long)
    flat = affine(torch.zeros(2, 16), torch.zeros(2))  # no gradient: examples stay where they start
    defense = made(flat, epsilon=0.2)
    one, other = ((defense.examples(images, labels) - 0.5).flatten() for _ in range(2))
    assert not torch.equal(one, other)
    assert one.abs().max() <= 0.2 and one.abs().max() > 0.198 and abs(float(one.mean())) < 0.01
    assert float(one.std()) == pytest.approx(0.4 / 12**0.5, rel=0.03)
    assert torch.equal(made(flat, epsilon=0.2, random_start=False).examples(images, labels), images)


def test_the_loss_is_the_entropy_of_the_examples_in_units_of_images(batch, ask):
    images, labels = batch
    layer = Standardised(1)
    layer.mean.fill_(0.4)
    layer.std.fill_(0.2)
    network = normed().eval()
    defense = made(network, layer, (1, 4, 4), epsilon=0.05, step_size=0.02, random_start=False)
    inputs = layer(images)
    before = inputs.clone()
    loss, logits = ask(defense, inputs, labels)
    assert torch.equal(inputs, before)
    model = Classifier(layer, network)
    examples = made(model, epsilon=0.05, step_size=0.02, random_start=False).examples(images, labels)
    assert torch.allclose(logits, model(examples), atol=1e-4)
    entropy = torch.nn.functional.cross_entropy
    assert loss.item() == pytest.approx(entropy(logits, labels).item(), rel=1e-6)
    assert loss.item() > entropy(network(inputs), labels).item() + 0.01
    plain, _ = ask(made(network, epsilon=0.05, step_size=0.02, random_start=False), images, labels)
    assert plain.item() == pytest.approx(
        entropy(
            network(made(network, epsilon=0.05, step_size=0.02, random_start=False).examples(images, labels)), labels
        ).item()
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_crafting_uses_its_mode_and_leaves_the_network_as_it_was(mode, batch):
    network = normed().train()
    network[2].running_mean.normal_()
    network[4].eval()
    modes, tensors = [m.training for m in network.modules()], copy.deepcopy(network.state_dict())
    seen = []
    handle = network[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    made(network, mode=mode, epsilon=0.1, steps=4).examples(*batch)
    handle.remove()
    assert seen == [mode == "train"] * 4
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in tensors.items())
    assert all(weight.grad is None for weight in network.parameters())


def test_the_pass_that_trains_updates_the_norms_once(batch, ask):
    network = normed().train()
    ask(made(network, epsilon=0.1, steps=5), *batch)
    assert network[2].num_batches_tracked.item() == 1 and network[2].running_mean.abs().max() > 0


def test_frozen_norms_stay_frozen(batch, ask):
    network = normed().train()
    network[2].eval()
    mean = network[2].running_mean.clone()
    ask(made(network, epsilon=0.1, steps=2), *batch)
    assert torch.equal(network[2].running_mean, mean) and not network[2].training


def test_l2_examples_on_an_affine_network_have_a_closed_form(affine):
    weight = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0]])
    images = torch.full((2, 1, 2, 2), 0.5)
    defense = made(affine(weight, torch.zeros(2)), norm="l2", epsilon=0.2, steps=5, step_size=0.1, random_start=False)
    found = defense.examples(images, torch.tensor([0, 1]))
    direction = torch.tensor([[-0.6, 0.8, 0.0, 0.0], [0.6, -0.8, 0.0, 0.0]]).view(2, 1, 2, 2)
    assert torch.allclose(found, images + 0.2 * direction, atol=1e-6)
    still = made(affine(torch.zeros(2, 4), torch.zeros(2)), norm="l2", random_start=False)
    assert torch.equal(still.examples(images, torch.tensor([0, 1])), images)  # no gradient, no step


def test_the_l2_start_is_uniform_in_the_ball(affine):
    images, labels = torch.full((4000, 1, 1, 2), 0.5), torch.zeros(4000, dtype=torch.long)
    defense = made(affine(torch.zeros(2, 2), torch.zeros(2)), norm="l2", epsilon=0.2, steps=1)
    length = (defense.examples(images, labels) - 0.5).flatten(1).norm(dim=1) / 0.2
    assert length.max() <= 1 + 1e-6 and float((length < 0.5).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_l2_examples_stay_in_the_ball_and_the_box(batch):
    images, labels = (batch[0] * 1.4 - 0.2).clamp(0, 1), batch[1]
    found = made(normed().train(), norm="l2", epsilon=0.5, step_size=0.2).examples(images, labels)
    length = (found - images).flatten(1).norm(dim=1)
    assert found.min() >= 0 and found.max() <= 1 and length.max() <= 0.5 + 1e-6 and length.mean() > 0.3


def test_examples_leave_the_predicted_class_where_asked(affine):
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0], [-1.0, 1.0, 2.0, 0.0]])
    network, images = affine(weight, torch.zeros(2)), torch.tensor([0.9, 0.1, 0.1, 0.5]).view(1, 1, 2, 2)
    assert network(images).argmax(1).item() == 0
    settings = {"epsilon": 0.1, "steps": 2, "step_size": 0.1, "random_start": False}
    wrong = torch.tensor([1])
    by_label, by_prediction = (made(network, label=kind, **settings).examples(images, wrong) for kind in KINDS)
    assert torch.equal(by_prediction, made(network, **settings).examples(images, torch.tensor([0])))
    assert not torch.equal(by_label, by_prediction)


KINDS = ("true", "predicted")


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (0.5, 20), (1.0, 40)])
def test_a_share_of_the_batch_stays_clean(share, kept, batch, ask):
    network = normed().train()
    found = made(network, epsilon=0.1, clean=share).examples(*batch)
    moved = (found != batch[0]).flatten(1).any(1)
    assert moved.tolist() == [False] * kept + [True] * (40 - kept)
    _, logits = ask(made(network.eval(), epsilon=0.1, clean=share), *batch)
    assert torch.equal(logits[:kept], network(batch[0])[:kept])


def test_it_makes_a_network_robust(mlp, digit_arrays, trainer):
    images, labels = (torch.from_numpy(part)[:400] for part in digit_arrays["train"])
    inputs = mlp.preprocessing(images.float() / 255)
    test, truth = (torch.from_numpy(part)[:150] for part in digit_arrays["test"])
    accuracies = []
    for name, values in (("clean", {}), ("pgd-training", {"epsilon": 0.08, "steps": 4, "step_size": 0.04})):
        network = copy.deepcopy(mlp.network)
        schedule = {"epochs": 15, "optimizer": "adam", "learning_rate": 0.001, "batch_size": 20}
        made = trainer(network, name, values, inputs, labels, layer=mlp.preprocessing, **schedule)
        made.run()
        model = Classifier(mlp.preprocessing, network).eval()
        rows = craft("pgd", model, test.float() / 255, truth, epsilons=[0.08], steps=20, loss="log-odds").rows
        accuracies.append((rows["adversarial_label"] == rows["label"]).mean())
    assert accuracies[1] > accuracies[0] + 0.15


# -- clean images with a weight ---------------------------------------------------------------------------------------


def test_vanilla_weighs_clean_images_and_examples_in_passes_of_training_mode(batch, ask):
    settings = {"epsilon": 0.1, "steps": 3, "step_size": 0.04, "random_start": False, "mode": "eval"}
    network, seen = normed()[:4].append(torch.nn.Linear(30, 3)).train(), []
    handle = network[2].register_forward_hook(lambda module, given, _: seen.append((module.training, len(given[0]))))
    other = copy.deepcopy(network)
    loss, logits = ask(made(network, clean_weight=0.3, **settings), *batch)
    handle.remove()
    assert seen == [(True, 40)] + [(False, 40)] * 3 + [(True, 40)]
    clean = other(batch[0])  # in training mode, before the examples
    examples = made(other, **settings).examples(*batch)
    entropy = torch.nn.functional.cross_entropy
    expected = 0.3 * entropy(clean, batch[1]) + 0.7 * entropy(other(examples), batch[1])
    assert torch.allclose(logits, clean, atol=1e-6) and loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert network[2].num_batches_tracked.item() == 2


def test_the_predicted_class_is_that_of_the_clean_pass(affine, ask):
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0], [-1.0, 1.0, 2.0, 0.0]])
    seen = []

    class Turning(torch.nn.Module):
        """Sees the other class in eval mode."""

        def __init__(self):
            super().__init__()
            self.network = affine(weight, torch.zeros(2))

        def forward(self, inputs):
            seen.append(inputs.detach())
            return self.network(inputs) * (1.0 if self.training else -1.0)

    images, labels = torch.tensor([0.9, 0.1, 0.1, 0.5]).view(1, 1, 2, 2), torch.tensor([1])
    settings = {"epsilon": 0.1, "steps": 1, "step_size": 0.1, "random_start": False, "label": "predicted"}
    ask(made(Turning().train(), mode="eval", clean_weight=0.5, **settings), images, labels)
    sign = torch.tensor([1.0, -1.0, -1.0, 0.0]).view(1, 1, 2, 2)  # away from class 0, of logits that are turned
    assert len(seen) == 3 and torch.allclose(seen[-1], images + 0.1 * sign, atol=1e-6)


@pytest.mark.parametrize(("epoch", "calls"), [(2, 1), (3, 7)])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_examples_begin_with_their_epoch(epoch, calls, weight, batch):
    network, seen = normed(), []
    network.register_forward_hook(lambda *_: seen.append(1))
    defense = made(network, adversarial_from=3, steps=5, clean_weight=weight)
    defense.loss(Batch(*batch, torch.arange(40)), Moment(epoch, 4 * epoch, 4, 160))
    assert len(seen) == (calls if weight or epoch < 3 else calls - 1)


def test_a_clean_pass_before_examples_in_training_mode_has_its_gradient(batch):
    network = normed().train()
    images, labels = batch
    defense = made(network, steps=2, clean_weight=0.5)
    defense.loss(Batch(images, labels, torch.arange(40)), Moment(0, 0, 1, 40))[0].backward()
    assert network[1].weight.grad.abs().sum() > 0
