"""Parseval's retraction and the fixed set of adversarial training."""

import itertools

import pytest
import torch

from redoubt import registry
from redoubt.attacks import deepfool
from redoubt.defenses import adversarial_training, parseval
from redoubt.defenses.interface import Batch, Moment


def plain(steps, title):
    return steps


def test_a_tight_frame_stays():
    weight = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q[:5].clone()
    before = weight.clone()
    parseval.retract(weight, torch.arange(5), 0.1)
    assert torch.allclose(weight, before, atol=1e-12)


def test_singular_values_go_to_one():
    torch.manual_seed(0)
    weight = torch.randn(6, 3, 2, 2, dtype=torch.float64) * 0.2
    distances = []
    for _ in range(200):
        distances.append(float((torch.linalg.svdvals(weight.flatten(1)) - 1).abs().max()))
        parseval.retract(weight, torch.arange(6), 0.05)
    assert distances[0] > 0.2 and distances[-1] < 1e-3
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(distances))


def test_one_step_by_hand():
    # One row w: (1 + beta) w - beta ||w||^2 w.
    weight = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    parseval.retract(weight, torch.tensor([0]), 0.01)
    assert torch.allclose(weight, torch.tensor([[3.0, 4.0], [1.0, 0.0]]) * torch.tensor([[1.01 - 0.25], [1.0]]))


class Still(torch.optim.SGD):
    """An optimizer whose updates change nothing."""

    def step(self):
        """Leave the weights as they are."""


@pytest.mark.parametrize(("share", "counts"), [(0.3, (6, 3)), (1.0, (20, 10)), (0.001, (1, 1))])
def test_only_the_drawn_share_of_units_changes(share, counts):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 20, 3), torch.nn.Flatten(), torch.nn.Linear(20, 10))
    options = registry.parameters("defenses", "parseval", {"beta": 0.1, "share": share})
    before = [layer.weight.detach().clone() for layer in (network[0], network[2])]
    biases = [layer.bias.detach().clone() for layer in (network[0], network[2])]
    defense, changed = parseval.Defense(options, network), []
    images, labels = torch.rand(2, 2, 3, 3), torch.tensor([0, 1])
    for _ in range(2):
        defense.step(Batch(images, labels, labels), Moment(0, 0, 1, 2), Still(network.parameters(), 0.1))
        changed.append(
            [(b != n.weight).flatten(1).any(1) for b, n in zip(before, (network[0], network[2]), strict=True)]
        )
    assert tuple(int(rows.sum()) for rows in changed[0]) == counts
    assert share == 1.0 or changed[1][0].sum() > counts[0]  # another draw at the next step
    assert all(torch.equal(b, n.bias) for b, n in zip(biases, (network[0], network[2]), strict=True))


def test_adversarial_set_is_made_once_from_the_starting_network(mlp, digit_images, ask):
    inputs, labels = mlp.preprocessing(digit_images[0][:300]), digit_images[1][:300]
    options = registry.parameters("defenses", "adversarial-training", {"iterations": 20})
    defense = adversarial_training.Defense(options, mlp.network.train())
    predicted = mlp.network.eval()(inputs).argmax(1)
    mlp.network.train()
    copy = inputs.clone()
    found = defense.training_inputs(inputs, labels, plain)
    assert mlp.network.training and torch.equal(inputs, copy)
    expected = inputs + deepfool.perturb(mlp.network.eval(), inputs, options)[0]
    assert (found - expected).abs().max() <= 1e-3
    assert (found - inputs).flatten(1).norm(dim=1).min() > 1  # no clean image among them
    assert (mlp.network(found).argmax(1) != predicted).float().mean() > 0.99
    loss, logits = ask(defense, found[:10], labels[:10])
    assert torch.equal(logits, mlp.network(found[:10]))
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels[:10]).item())
