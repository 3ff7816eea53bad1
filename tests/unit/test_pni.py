"""PNI: its loss, the label that examples leave, when they begin, and which weights decay."""

import pytest
import torch

from redoubt import registry
from redoubt.defenses.interface import Batch, Moment
from redoubt.networks import _noise as noise

VALUES = {"epsilon": 0.1, "steps": 3, "step_size": 0.04, "random_start": False, "adversarial_from": 1}


def made(by="layer", initial=0.25, **values):
    torch.manual_seed(3)
    layers = [torch.nn.Flatten(), torch.nn.Linear(16, 30), torch.nn.BatchNorm1d(30), torch.nn.ReLU()]
    options = registry.parameters("defenses", "pni", {"by": by, "initial": initial, **values})
    network = torch.nn.Sequential(*layers, torch.nn.Linear(30, 3))
    module = registry.method("defenses", "pni")
    return module.Defense(options, module.change(options, network, (1, 4, 4), 3))


def test_defaults_are_those_of_the_public_code():
    options = registry.parameters("defenses", "pni", {})
    assert (options.by, options.initial, options.epsilon, options.steps) == ("layer", 0.25, 0.031, 7)
    assert (options.step_size, options.label, options.mode) == (0.01, "predicted", "eval")
    assert (options.clean_weight, options.adversarial_from, options.random_start) == (0.5, 5, True)


def test_noise_moves_the_examples_of_every_step():
    defense = made(**VALUES)
    defense.network.train()
    seen, modes = [], []
    first = defense.network[1]
    first.register_forward_hook(lambda module, *_: modes.append(module.training))
    part = first.parametrizations.weight[0]
    part.register_forward_hook(lambda _, given, out: seen.append((out - given[0]).detach()))
    batch = Batch(torch.rand(8, 1, 4, 4), torch.arange(8) % 3, torch.arange(8))
    defense.loss(batch, Moment(1, 10, 10, 80))
    assert modes == [True, False, False, False, True]  # clean images, three steps, examples
    assert len(seen) == 5 and len(torch.stack(seen).flatten(1).unique(dim=0)) == 5


@pytest.mark.parametrize(("epoch", "calls"), [(0, 1), (1, 5), (7, 5)])
def test_examples_begin_with_their_epoch(epoch, calls):
    defense, seen = made(**VALUES), []
    defense.network.register_forward_hook(lambda *_: seen.append(1))
    defense.loss(Batch(torch.rand(8, 1, 4, 4), torch.arange(8) % 3, torch.arange(8)), Moment(epoch, 10 * epoch, 10, 80))
    assert len(seen) == calls


def test_alpha_is_trained_and_does_not_decay(trainer):
    torch.manual_seed(0)
    inputs, labels = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
    decayed = {}
    for decay in (0.0, 0.9):
        defense = made("element", **VALUES)
        made_by = trainer(
            defense.network,
            "pni",
            {"by": "element", **VALUES},
            inputs,
            labels,
            epochs=1,
            batch_size=20,
            weight_decay=decay,
            learning_rate=0.1,
        )
        made_by.run()
        decayed[decay] = (
            [part.alpha.detach().clone() for part in noise.noises(defense.network)],
            defense.network[1].parametrizations.weight.original,
        )
    assert all(torch.equal(one, other) for one, other in zip(*(alphas for alphas, _ in decayed.values()), strict=True))
    assert all((alpha != 0.25).any() for alpha in decayed[0.0][0])
    assert not torch.equal(decayed[0.0][1], decayed[0.9][1])
