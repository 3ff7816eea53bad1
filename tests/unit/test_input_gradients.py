"""Gradients of convolutions of grey images: those of autograd, where they apply, and untouched where they do not."""

import pytest
import torch

from redoubt.attacks import _input_gradients as input_gradients
from redoubt.attacks._input_gradients import PART, InputGradients
from redoubt.evaluation.craft import craft

OURS = "_ConvolutionBackward"


def layer(channels=1, bias=True, dtype=torch.float64, kernel=(5, 3), **options):
    torch.manual_seed(0)
    return torch.nn.Conv2d(channels, 6, kernel, bias=bias, **options).to(dtype)


def gradient(network, images, ours):
    images = images.clone().requires_grad_()
    if ours:
        with InputGradients():
            outputs = network(images)
    else:
        outputs = network(images)
    slopes = torch.randn(outputs.shape, dtype=outputs.dtype, generator=torch.Generator().manual_seed(1))
    return outputs, torch.autograd.grad((outputs * slopes).sum(), images)[0]


@pytest.mark.parametrize("count", [1, 3, PART, PART + 1])
@pytest.mark.parametrize("padding", [0, 2, (1, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_autograd(count, padding, bias):
    images = torch.rand(count, 1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for form in (torch.contiguous_format, torch.channels_last):
        network = layer(bias=bias, padding=padding).to(memory_format=form)
        (plain, expected), (outputs, found) = (gradient(network, images, ours) for ours in (False, True))
        assert type(outputs.grad_fn).__name__ == OURS and type(plain.grad_fn).__name__ != OURS
        assert torch.equal(outputs, plain)
        assert found.shape == images.shape and torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"channels": 3}, {"stride": 2}, {"stride": (1, 2)}, {"dilation": 2}, {"padding": "same"}],
    ids=["colour", "stride", "strides", "dilation", "same"],
)
def test_other_convolutions_are_left_alone(options):
    network = layer(**options)
    images = torch.rand(4, options.get("channels", 1), 12, 12, dtype=torch.float64)
    (plain, expected), (outputs, found) = (gradient(network, images, ours) for ours in (False, True))
    assert type(outputs.grad_fn).__name__ != OURS
    assert torch.equal(outputs, plain) and torch.equal(found, expected)


def test_nothing_changes_without_gradients_and_after_the_context():
    network, images = layer(), torch.rand(2, 1, 9, 9, dtype=torch.float64)
    with InputGradients():
        assert type(network(images).grad_fn).__name__ != OURS  # the weights alone need one
        with torch.no_grad():
            assert network(images.clone().requires_grad_()).grad_fn is None
    assert type(network(images.requires_grad_()).grad_fn).__name__ != OURS


@pytest.mark.parametrize("name", ["pgd", "deepfool", "fgs"])
def test_attacks_find_the_same(name, lenet, digit_images, monkeypatch):
    images, labels = (part[:30] for part in digit_images)
    options = {"deepfool": {}, "fgs": {"epsilons": [0.1]}, "pgd": {"epsilons": [0.1], "steps": 5}}[name]
    seen, inner = [], input_gradients._Convolution.apply
    monkeypatch.setattr(input_gradients._Convolution, "apply", lambda *args: seen.append(1) or inner(*args))
    found = craft(name, lenet, images, labels, **options)
    assert seen
    monkeypatch.setattr(InputGradients, "__torch_function__", lambda self, f, t, a=(), k=None: f(*a, **(k or {})))
    plain = craft(name, lenet, images, labels, **options)
    assert found.rows["success"].equals(plain.rows["success"])
    assert found.rows["l2"].to_numpy() == pytest.approx(plain.rows["l2"].to_numpy(), rel=1e-4, abs=1e-5)
