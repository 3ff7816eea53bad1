"""Adv-BNN: divergences against torch's, of which layers, initial weights, and the draws of training."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.utils import parametrize

from redoubt import registry
from redoubt.defenses import adv_bnn
from redoubt.defenses.interface import Batch, Moment
from redoubt.networks import _noise as noise
from redoubt.networks._random import without_noise

IMAGES = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
BATCH, MOMENT = Batch(IMAGES, torch.arange(8) % 3, torch.arange(8)), Moment(0, 0, 10, 80)


def made(**values):
    torch.manual_seed(3)
    layers = [torch.nn.Conv2d(1, 50, 3, padding=1), torch.nn.BatchNorm2d(50), torch.nn.ReLU(), torch.nn.Flatten()]
    options = registry.parameters("defenses", "adv-bnn", {"draws": 5, "steps": 3, **values})
    network = adv_bnn.change(options, torch.nn.Sequential(*layers, torch.nn.Linear(800, 3)), (1, 4, 4), 3)
    return adv_bnn.Defense(options, network.train())


def gaussians(defense):
    """Return mean and sigma of every weight, layer by layer."""
    for module in defense.network.modules():
        if parametrize.is_parametrized(module):
            yield [(part.original, part[0].log_std.exp()) for part in module.parametrizations.values()]


def test_defaults_are_those_of_the_public_code():
    options = registry.parameters("defenses", "adv-bnn", {})
    assert (options.prior_std, options.initial_std, options.kl_weight, options.kl) == (0.08, 0.08, 1.0, "all")
    assert (options.steps, options.step_size, options.random_start, options.mode) == (10, 0.007, False, "eval")
    assert (options.label, options.clean_weight, options.adversarial_from) == ("true", 0.0, 0)


@pytest.mark.parametrize("kl", ["all", "last"])
def test_the_divergence_is_that_of_gaussians_of_all_layers_or_the_last(kl):
    defense = made(kl=kl, prior_std=0.3)
    with torch.no_grad():
        for part in noise.noises(defense.network):
            part.log_std.normal_(-2.0)
    layers = [
        sum(kl_divergence(Normal(mean, std), Normal(0.0, 0.3)).sum() for mean, std in layer)
        for layer in gaussians(defense)
    ]
    assert len(layers) == 3 and all(len(layer) == 2 for layer in gaussians(defense))
    expected = sum(layers) if kl == "all" else layers[-1]
    assert defense.divergence().item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_loss_adds_the_divergence_by_the_number_of_images():
    defense, plain = made(kl_weight=4.0), made(kl_weight=0.0)
    (loss, logits), (other, _) = (torch.manual_seed(1) and one.loss(BATCH, MOMENT) for one in (defense, plain))
    assert loss.item() == pytest.approx((other + 4.0 / 80 * defense.divergence()).item(), rel=1e-5)
    assert other.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, BATCH.labels).item(), rel=1e-5)


def test_initial_means_and_deviations():
    conv, norm, linear = gaussians(made(initial_std=0.2))
    for layer, bound in ((conv, 1 / 3), (linear, 800**-0.5)):
        for mean, _ in layer:
            assert 0 < mean.abs().max() <= bound
        assert layer[0][0].max() > 0.9 * bound and layer[0][0].min() < -0.9 * bound
    assert 0 <= norm[0][0].min() < 0.2 and 0.8 < norm[0][0].max() <= 1 and not norm[1][0].any()
    for _, std in (*conv, *norm, *linear):
        assert torch.allclose(std, torch.tensor(0.2))


def test_examples_are_made_by_one_draw_a_step_in_eval_mode():
    defense, seen = made(), []
    first = defense.network.network[0]
    first.register_forward_hook(lambda module, given, _: seen.append((module.training, module.weight.detach())))
    defense.loss(BATCH, MOMENT)
    assert [training for training, _ in seen] == [False] * 3 + [True]
    assert len(torch.stack([weight for _, weight in seen]).flatten(1).unique(dim=0)) == 4


def test_a_draw_has_the_mean_and_deviation_of_its_weight():
    defense = made(initial_std=0.2)
    linear = defense.network.network[4]
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([linear.weight for _ in range(500)])
        mean = linear.parametrizations.weight.original
        assert (draws.mean(0) - mean).abs().max() < 0.05 and (draws.std(0) - 0.2).abs().max() < 0.04
        with without_noise(defense.network):
            assert torch.equal(linear.weight, mean)


def test_gradients_reach_means_and_deviations_by_the_draw_of_the_call():
    mean, part = torch.zeros(5, requires_grad=True), noise.GaussianWeight(torch.zeros(5), 0.2)
    drawn = part(mean)
    drawn.sum().backward()
    assert torch.equal(mean.grad, torch.ones(5))
    assert torch.allclose(part.log_std.grad, drawn.detach())  # d sigma / d log(sigma) is sigma


def entropy_after(steps, **values):
    """Return the cross-entropy of the last ten of some steps of Adam on one batch of eight images."""
    defense, losses = made(steps=1, epsilon=1e-3, step_size=1e-3, **values), []
    optimizer = torch.optim.Adam(defense.network.parameters(), 0.01)
    for step in range(steps):
        _, logits = defense.step(BATCH, Moment(0, step, 100, 50_000), optimizer)
        losses.append(torch.nn.functional.cross_entropy(logits, BATCH.labels).item())
    return sum(losses[-10:]) / 10


def test_noise_above_the_means_and_a_heavy_divergence_keep_a_network_from_learning():
    assert entropy_after(40, initial_std=0.02, kl_weight=0.02) < 0.01
    assert entropy_after(40, initial_std=0.4, kl_weight=0.0) > 1.0
    assert entropy_after(40, initial_std=0.02, kl_weight=500.0) > 0.5
