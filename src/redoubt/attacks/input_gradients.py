"""Gradients with respect to the input alone, sooner: the first convolution of a network on grey images.

On a CPU the library's kernel for the gradient of a convolution's only input channel takes longer than the whole forward
pass of a LeNet. As a matrix product, whose columns are added up at their places, it takes a third of that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

PART = 8
"""Images of a product: more do not stay in a CPU's cache."""


class _Convolution(torch.autograd.Function):
    """A convolution of grey images with stride 1; it is a constant in its weights, and differentiable once."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: tuple):
        ctx.save_for_backward(weight)
        ctx.padding, ctx.shape = padding, images.shape
        return torch.conv2d(images, weight, bias, 1, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor):
        (weight,) = ctx.saved_tensors
        taps, size, kernel = weight.flatten(1).T, ctx.shape[2:], weight.shape[2:]
        fold = torch.nn.functional.fold  # adds up what overlaps
        parts = [fold(taps @ part.flatten(2), size, kernel, padding=ctx.padding) for part in gradient.split(PART)]
        return torch.cat(parts), None, None, None


def _suits(images: torch.Tensor, weight: torch.Tensor, stride: Any, dilation: Any) -> bool:
    plain = all(value in (1, (1, 1), [1, 1]) for value in (stride, dilation))
    grey = plain and images.dim() == 4 and images.shape[1] == weight.shape[1] == 1
    return grey and images.device.type == "cpu" and images.requires_grad and torch.is_grad_enabled()


class InputGradients(TorchFunctionMode):
    """In this context convolutions of grey images that need a gradient are ours; their weights get none.

    It is there for the forward pass; the backward pass may follow outside.
    """

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call one of torch's functions, or ours in its place."""
        if function is torch.conv2d:
            return _convolution(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _convolution(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    if isinstance(padding, str) or not _suits(input, weight, stride, dilation):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return _Convolution.apply(input, weight, bias, (padding, padding) if isinstance(padding, int) else tuple(padding))
