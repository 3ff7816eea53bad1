"""Preprocessing: what it learns from images, and the way back to them."""

import pytest
import torch

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.preprocessing import standardised
from redoubt.preprocessing._layers import Pixels


def fitted(name, images, **values):
    parameters = registry.parameters("preprocessing", name, values)
    module = registry.method("preprocessing", name)
    layer = module.build(parameters, tuple(images.shape[1:]))
    module.fit(parameters, layer, lambda: images.split(7))
    return layer


@pytest.fixture
def images():
    """200 correlated colour images of 3x4x4 in [0, 1]."""
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(48, 48, generator=draw) * torch.logspace(0, -1.5, 48)
    flat = torch.randn(200, 48, generator=draw) @ mixing.T
    return (0.5 + 0.06 * flat).clamp(0, 1).view(200, 3, 4, 4)


def test_mean_image_of_three_images():
    levels = torch.tensor([0.0, 0.25, 1.0]).view(3, 1, 1, 1)
    layer = fitted("mean-image", levels * torch.tensor([[1.0, 0.5], [0.0, 0.2]]))
    assert torch.allclose(layer.mean, 255 * 1.25 / 3 * torch.tensor([[[1.0, 0.5], [0.0, 0.2]]]))
    found = layer(torch.ones(1, 1, 2, 2))
    assert torch.allclose(found, 255 - layer.mean) and found.shape == (1, 1, 2, 2)


def test_mean_image_centres_its_images(images):
    layer = fitted("mean-image", images)
    assert layer(images).mean(0).abs().max() < 1e-3
    assert layer(images).abs().max() > 20  # the 0-255 scale


def test_fixed_channels_ignore_the_images(images):
    layer = fitted("mean-image", images, channels=[0.1, 0.2, 0.4])
    found = layer(torch.full((1, 3, 4, 4), 0.4))
    assert torch.allclose(found[0, :, 0, 0], 255 * torch.tensor([0.3, 0.2, 0.0]), atol=1e-4)
    assert found.shape == (1, 3, 4, 4)


def test_standardised_channels_by_hand():
    images = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.2]]], [[[0.0, 1.0]], [[0.4, 0.4]]]])  # (2, 2, 1, 2)
    layer = fitted("standardised", images)
    assert torch.allclose(layer.mean.flatten(), torch.tensor([0.5, 0.3]))
    assert torch.allclose(layer.std.flatten(), torch.tensor([0.5, 0.1]))
    found = layer(torch.full((1, 2, 3, 3), 0.4))
    assert torch.allclose(found[0, 0], torch.tensor(-0.2)) and torch.allclose(found[0, 1], torch.tensor(1.0))


def test_standardised_channels_have_mean_zero_and_variance_one(images):
    inputs = fitted("standardised", images)(images).transpose(0, 1).flatten(1)
    assert inputs.mean(1).abs().max() < 1e-5
    assert torch.allclose(inputs.std(1, unbiased=False), torch.ones(3), atol=1e-5)
    shades = 0.5 + 1e-4 * (images - 0.5)  # nearly constant, about a mean far from zero
    assert fitted("standardised", shades).std.min() == pytest.approx(standardised.FLOOR)
    exact = shades.double().transpose(0, 1).flatten(1).std(1, unbiased=False)
    assert exact.max() < standardised.FLOOR


@pytest.mark.parametrize("name", ["mean-image", "standardised"])
def test_images_come_back_from_every_layer_that_says_so(name, images):
    layer = fitted(name, images)
    assert torch.allclose(layer.to_images(layer(images)), images, atol=1e-6)
    assert layer.to_images(layer(images) + 300).min() > 1


@pytest.mark.parametrize("name", ["identity", "mean-image", "standardised"])
def test_pixels_learn_what_a_layer_does(name, images):
    layer = fitted(name, images)
    pixels = Pixels(images.shape[1:])
    assert torch.equal(pixels.inputs(images), images) and torch.equal(pixels.images(images), images)
    assert pixels.learn(layer) is pixels
    inputs = layer(images)
    assert torch.allclose(pixels.inputs(images), inputs, rtol=1e-5, atol=1e-4)
    assert torch.allclose(pixels.images(inputs), images, atol=1e-6)
    assert set(pixels.state_dict()) == {"scale", "offset"} and not list(pixels.parameters())


def test_pixels_refuse_a_layer_that_mixes_them(images):
    with pytest.raises(RedoubtError, match="Whitened mixes pixels"):
        Pixels(images.shape[1:]).learn(fitted("whitened", images))
    with pytest.raises(RedoubtError, match="mixes pixels"):  # of one colour each, black and white pass
        Pixels(images.shape[1:]).learn(torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False))
    with pytest.raises(RedoubtError, match="mixes pixels"):
        Pixels(images.shape[1:]).learn(torch.nn.Softplus())


def test_identity_changes_nothing(images):
    assert torch.equal(fitted("identity", images)(images), images)


def test_whitened_components_above_the_floor_have_one_variance(images):
    floor = 8.0
    layer = fitted("whitened", images, component_floor=floor)
    before, after = layer.normalised(images).double(), layer(images).flatten(1).double()
    variances, components = torch.linalg.eigh(before.T @ before / len(images))
    energy = variances.mean()
    found = components.T @ (after.T @ after / len(images)) @ components / energy
    above = variances.sqrt() > floor
    assert 5 < int(above.sum()) < 45
    assert torch.allclose(found.diagonal()[above], torch.ones(int(above.sum())).double(), atol=1e-3)
    expected = variances[~above].clamp_min(0) / floor**2
    assert torch.allclose(found.diagonal()[~above], expected, atol=1e-3) and (expected < 1).all()
    assert (found - torch.diag(found.diagonal())).abs().max() < 1e-3
    assert torch.allclose(layer.whitening, layer.whitening.T, atol=1e-5)


def test_contrast_is_brought_to_the_average_above_the_floor(images):
    flat = images.mean(0) + 0.02 * (images - images.mean(0))  # nearly the mean image: almost no contrast
    layer = fitted("whitened", images, contrast_floor=5.0)
    stds = layer.deviations(images)[1]
    assert layer.contrast.item() == pytest.approx(float(stds.mean()), rel=1e-5)
    assert torch.allclose(layer.normalised(images)[stds[:, 0] > 5].std(1), layer.contrast, rtol=1e-4)
    low = layer.deviations(flat)[1]
    assert (low < 5).all()
    assert torch.allclose(layer.normalised(flat).std(1), layer.contrast * low[:, 0] / 5.0, rtol=1e-3)
    assert layer.normalised(images).mean(1).abs().max() < 1e-3


def test_constant_images_stay_finite(images):
    layer = fitted("whitened", images)
    assert torch.isfinite(layer(torch.zeros(2, 3, 4, 4))).all()
    assert not hasattr(layer, "to_images")  # contrast is lost: there is no way back


@pytest.mark.parametrize("name", registry.names("preprocessing"))
def test_what_is_learnt_travels_with_the_weights(name, images):
    layer = fitted(name, images)
    fresh = registry.method("preprocessing", name).build(registry.parameters("preprocessing", name, {}), (3, 4, 4))
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(images), layer(images))
    assert torch.equal(layer(images[:1]), layer(images)[:1]) or torch.allclose(
        layer(images[:1]), layer(images)[:1], atol=1e-3
    )
    assert not list(layer.parameters())
