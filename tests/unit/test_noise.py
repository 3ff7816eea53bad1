"""Noise of learned size: its scale, its draws, its gradients, where it is added, and what the probe reads of it."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch.nn.utils import parametrize

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.networks import _noise as noise
from redoubt.probes.interface import View


def weight_noise(by="layer", initial=0.5, shape=(6, 3, 3, 3)):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return weight, noise.WeightNoise(weight, by, initial)


def feature_noise(initial=0.5):
    features = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return features, noise.FeatureNoise((2, 3, 3), initial)


def resnet(depth=8):
    torch.manual_seed(0)
    options = registry.parameters("networks", "resnet-cifar", {"depth": depth, "width": 0.25})
    return registry.method("networks", "resnet-cifar").build(options, (3, 8, 8), 10)


# -- one part ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "shape"), [("layer", (1,)), ("channel", (6, 1, 1, 1)), ("element", (6, 3, 3, 3))])
def test_alpha_has_the_shape_of_what_it_is_by(by, shape):
    weight, part = weight_noise(by)
    assert part.alpha.shape == shape and (part.alpha == 0.5).all()
    noisy = part(weight)
    noisy.sum().backward()
    draw = ((noisy - weight) / (0.5 * weight.std())).detach()
    sizes = [axis for axis, size in enumerate(shape) if size == 1] if by != "layer" else None
    drawn = draw.sum() if sizes is None else draw.sum(sizes, keepdim=True) if sizes else draw
    # by the draw of the same call; neither it nor the deviation of the weight is differentiated
    assert torch.allclose(part.alpha.grad, weight.std().detach() * drawn, rtol=1e-4, atol=1e-5)
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_theta_has_an_element_for_each_feature_and_the_gradient_of_its_draw():
    features, part = feature_noise()
    noisy = part(features)
    noisy.sum().backward()
    draw = ((noisy - features) / 0.5).detach()
    assert part.theta.shape == (2, 3, 3) and torch.allclose(draw, draw[:1].expand_as(draw), atol=1e-5)
    assert torch.allclose(part.theta.grad, draw.sum(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(features.grad, torch.ones_like(features))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [weight_noise, feature_noise])
def test_every_call_draws_a_standard_normal_again(make, training):
    given, part = make()
    part.train(training)
    torch.manual_seed(0)
    size = 0.5 * (given.std() if make is weight_noise else 1.0)
    draws = torch.stack([((part(given) - given) / size).detach() for _ in range(400)])
    draws = draws if make is weight_noise else draws[:, 0]
    assert len(draws.flatten(1).unique(dim=0)) == 400
    assert draws.mean().abs() < 0.05 and (draws.std() - 1).abs() < 0.05
    assert draws.std(0).min() > 0.8  # of every element


def test_noise_that_has_not_begun_adds_nothing_and_the_state_knows():
    features, part = feature_noise()
    network = torch.nn.Sequential(part)
    noise.switch(network, False)
    assert torch.equal(network(features), features)
    other = torch.nn.Sequential(noise.FeatureNoise((2, 3, 3), 0.1))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(features), features)
    noise.switch(network, True)
    assert not torch.equal(network(features), features)


# -- networks ----------------------------------------------------------------------------------------------------------


def test_every_convolution_and_linear_layer_has_noise_and_starts_from_its_weight():
    plain = resnet()
    network = noise.add_weight_noise(copy.deepcopy(plain), "layer", 0.25)
    for (name, before), after in zip(
        plain.named_modules(), (network.get_submodule(n) for n, _ in plain.named_modules()), strict=True
    ):
        kind = isinstance(before, (torch.nn.Conv2d, torch.nn.Linear))
        assert parametrize.is_parametrized(after, "weight") == kind, name
        if kind:
            assert torch.equal(after.parametrizations.weight.original, before.weight)
    assert len(list(noise.noises(network))) == 8 and len(noise.weights(network)) == 8


def test_feature_noise_is_in_front_of_the_last_relu_of_the_stem_and_of_every_block():
    plain = resnet(14)
    network = noise.add_feature_noise(copy.deepcopy(plain), ["stem.relu", "*.relu2"], (3, 8, 8), 0.3, True)
    names = [name.removesuffix(".noise") for name, part in network.named_modules() if isinstance(part, noise.Noise)]
    assert names == ["stem.relu"] + [f"stage{stage}.{block}.relu2" for stage in (1, 2, 3) for block in (0, 1)]
    assert [tuple(part.theta.shape) for part in noise.noises(network)] == [(4, 8, 8)] * 3 + [(8, 4, 4)] * 2 + [
        (16, 2, 2)
    ] * 2
    seen = {}
    for which, one in (("plain", plain.eval()), ("noisy", network.eval())):
        last = one.get_submodule("stage1.0.relu2")
        last = last if which == "plain" else last.noise
        last.register_forward_pre_hook(lambda _, given, which=which: seen.update({which: given[0]}))
    noise.switch(network, False)
    inputs = torch.rand(2, 3, 8, 8)
    assert torch.equal(plain(inputs), network(inputs)) and torch.equal(seen["plain"], seen["noisy"])
    noise.switch(network, True)
    with torch.no_grad():
        for part in noise.noises(network):
            part.theta.fill_(100.0)
        assert (network.get_submodule("stage1.0.relu2")(torch.zeros(1, 4, 8, 8)) >= 0).all()


@pytest.mark.parametrize(("still", "started"), [(False, True), (False, False), (True, True)])
def test_features_in_front_of_the_noise_are_left_alone(still, started):
    """ReLUs behind the noise write to what it returns."""
    features = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    network = torch.nn.Sequential(OrderedDict(first=torch.nn.Identity(), relu=torch.nn.ReLU()))
    noise.add_feature_noise(network, ["relu"], (2, 3, 3), 0.5, started)
    for part in noise.noises(network):
        part.still = still
    assert network.relu.module.inplace
    before = features.clone()
    assert (network(features) >= 0).all() and torch.equal(features, before)


def test_a_pattern_without_a_module_is_an_error():
    with pytest.raises(RedoubtError, match=r"before: 'relu9\*' matches none of stem, stem.conv"):
        noise.add_feature_noise(resnet(), ["stem.relu", "relu9*"], (3, 8, 8), 0.3, True)


@pytest.mark.parametrize("kind", ["weight", "feature"])
def test_images_of_one_call_share_its_draw(kind):
    network = resnet()
    if kind == "weight":
        network = noise.add_weight_noise(network, "element", 0.25)
    else:
        network = noise.add_feature_noise(network, ["*.relu2"], (3, 8, 8), 0.25, True)
    network, images = network.eval(), torch.rand(1, 3, 8, 8).repeat(5, 1, 1, 1)
    with torch.no_grad():
        one, other = network(images), network(images)
    assert torch.allclose(one, one[:1].expand_as(one), atol=1e-5)
    assert (one - other).abs().max() > 1e-2


# -- the probe ---------------------------------------------------------------------------------------------------------


def test_the_probe_reads_means_over_all_elements():
    network = noise.add_feature_noise(resnet(), ["*.relu2"], (3, 8, 8), 0.25, True)
    values = [0.5, -1.5, 2.0]
    with torch.no_grad():
        for part, value in zip(noise.noises(network), values, strict=True):
            part.theta.fill_(value)
    counts = [4 * 64, 8 * 16, 16 * 4]
    measure = registry.method("probes", "noise-size").measure
    mean = sum(count * value for count, value in zip(counts, values, strict=True)) / sum(counts)
    size = sum(count * abs(value) for count, value in zip(counts, values, strict=True)) / sum(counts)
    found = measure(View(network, lambda: iter(()), 0, 0.0, 0.0), None)
    assert found == {"noise_mean": pytest.approx(mean), "noise_mean_size": pytest.approx(size)}
    assert measure(View(resnet(), lambda: iter(()), 0, 0.0, 0.0), None) == {}
