"""Learn2Perturb: tau, the regulariser, both updates of a batch by hand, the floor, and when noise begins."""

import math

import pytest
import torch

from redoubt import registry
from redoubt.defenses import learn2perturb
from redoubt.defenses.interface import Batch, Moment
from redoubt.networks import _noise as noise
from redoubt.study.entries.model import Training
from redoubt.training.optimizer import NamedOptimizer

BATCH = Batch(torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3, torch.arange(8))


def made(**values):
    torch.manual_seed(3)
    layers = [torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 3)]
    given = {"before": ["1"], "noise_from": 2, "adversarial_from": 4, "steps": 2, "gamma": 0.05, **values}
    options = registry.parameters("defenses", "learn2perturb", given)
    network = learn2perturb.change(options, torch.nn.Sequential(*layers), (1, 4, 4), 3)
    return learn2perturb.Defense(options, network.train())


def optimizer(defense, **changes):
    schedule = {"epochs": 9, "batch_size": 8, "learning_rate": 0.1, "momentum": 0.9, "nesterov": True, **changes}
    found = NamedOptimizer(defense.network, defense, Training(**schedule))
    found.set_learning_rate(0.1)
    return found.torch


def at(epoch):
    return Moment(epoch, 10 * epoch, 10, 80)


def thetas(defense):
    return [part.theta for part in noise.noises(defense.network)]


def test_defaults_are_those_of_paper_and_code():
    options = registry.parameters("defenses", "learn2perturb", {})
    assert (options.gamma, options.initial, options.floor, options.noise_from) == (1e-4, 0.25, 0.01, 10)
    assert (options.epsilon, options.steps, options.step_size) == (8 / 255, 7, 0.01)
    assert (options.clean_weight, options.adversarial_from, options.label, options.mode) == (
        0.5,
        20,
        "predicted",
        "eval",
    )


def test_tau_is_harmonic_from_one_at_the_first_epoch_of_noise():
    assert [learn2perturb.tau(epoch, 10) for epoch in (10, 11, 12)] == [1.0, 1.5, pytest.approx(11 / 6)]


def test_the_regulariser_by_hand_and_how_far_it_alone_takes_theta():
    defense = made()
    (theta,) = thetas(defense)
    with torch.no_grad():
        theta.copy_(torch.linspace(0.01, 2.0, theta.numel()).view_as(theta))
    found = defense.regulariser(at(4))
    assert found.item() == pytest.approx(-0.05 / (11 / 6) * sum(map(math.sqrt, theta.flatten().tolist())), rel=1e-5)
    found.backward()
    assert torch.allclose(theta.grad, -0.05 / (11 / 6) / (2 * theta.detach().sqrt()), rtol=1e-4)
    # d theta / d step = rate x gamma / (2 tau sqrt(theta)), rate 0.1 / (1 - 0.9): theta^1.5 grows by the sum of 1 / tau
    for epochs, expected in ((50, 0.64), (150, 1.06)):
        grown = sum(391 * 1e-4 / learn2perturb.tau(epoch, 10) for epoch in range(10, epochs))
        assert (0.25**1.5 + 0.75 * grown) ** (2 / 3) == pytest.approx(expected, abs=0.005)


def test_a_batch_updates_theta_by_the_regulariser_and_then_all_by_the_loss_with_one_momentum():
    defense, other = made(), made()
    mine, (theta,) = optimizer(defense), thetas(other)
    weights = [weight for weight in other.network.parameters() if weight is not theta]
    before = [weight.detach().clone() for weight in weights]
    buffer = torch.zeros_like(theta)

    def nesterov(gradient):
        """One update of theta, as torch's SGD does it."""
        nonlocal buffer
        buffer = 0.9 * buffer + gradient
        theta.sub_(0.1 * (gradient + 0.9 * buffer))

    for epoch in (2, 3):
        torch.manual_seed(epoch)
        defense.step(BATCH, at(epoch), mine)
        torch.manual_seed(epoch)
        with torch.no_grad():
            nesterov(-0.05 / learn2perturb.tau(epoch, 2) / (2 * theta.sqrt()))
        noise.switch(other.network, True)
        other.network.zero_grad()
        loss = torch.nn.functional.cross_entropy(other.network(BATCH.inputs), BATCH.labels)
        loss.backward()
        with torch.no_grad():
            nesterov(theta.grad)
            theta.clamp_min_(0.01)
        if epoch == 2:  # the weights moved once, by the loss alone
            for weight, was, now in zip(weights, before, _others(defense), strict=True):
                assert torch.allclose(now, was - 0.1 * 1.9 * weight.grad, atol=1e-6)
        other.network.load_state_dict({**defense.network.state_dict(), "1.noise.theta": theta})
        assert torch.allclose(thetas(defense)[0], theta, atol=1e-6)
    assert (theta - 0.25).abs().min() > 1e-3


def _others(defense):
    return [weight for weight in defense.network.parameters() if weight is not thetas(defense)[0]]


def test_theta_neither_decays_nor_falls_below_its_floor():
    defense = made(gamma=0.0, initial=0.5)
    plain, decayed = made(gamma=0.0, initial=0.5), optimizer(defense, weight_decay=5.0)
    for one, its in ((defense, decayed), (plain, optimizer(plain))):
        torch.manual_seed(0)
        one.step(BATCH, at(3), its)
    assert torch.equal(thetas(defense)[0], thetas(plain)[0]) and (thetas(plain)[0] != 0.5).any()
    assert not torch.equal(_others(defense)[0], _others(plain)[0])
    low = made(gamma=0.0, initial=0.011)
    its = optimizer(low)
    for step in range(4):
        torch.manual_seed(step)
        low.step(BATCH, at(3), its)
        assert thetas(low)[0].min() >= 0.01
    assert (thetas(low)[0] == low.parameters.floor).any()


@pytest.mark.parametrize(("epoch", "noisy", "calls"), [(1, False, 1), (2, True, 1), (3, True, 1), (4, True, 4)])
def test_noise_begins_with_its_epoch_and_examples_with_theirs(epoch, noisy, calls):
    defense, seen = made(), []
    handle = defense.network.register_forward_hook(lambda *_: seen.append(1))
    defense.step(BATCH, at(epoch), optimizer(defense))
    handle.remove()
    assert len(seen) == calls  # clean images, two steps, examples
    assert (thetas(defense)[0] != 0.25).any() == noisy
    defense.network.eval()
    one, other = (defense.network(BATCH.inputs) for _ in range(2))
    assert torch.equal(one, other) != noisy


def test_noise_from_the_start_is_there_before_the_first_step():
    network = made(noise_from=0).network.eval()
    assert not torch.equal(network(BATCH.inputs), network(BATCH.inputs))
