"""Gradients with respect to the input alone, sooner: the first convolution of a network on grey images.

On a CPU the library's kernel for the gradient of a convolution's only input channel takes longer than the whole forward
pass of a LeNet. As a matrix product, whose columns are added up at their places, it takes a third of that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

PART = 64
"""Images of a product: more do not stay in a CPU's cache."""


class _Convolution(torch.autograd.Function):
    """A convolution of grey images with stride 1; it is a constant in its weights, and differentiable once."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: tuple[int, int]
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.padding, ctx.shape = padding, images.shape
        return torch.conv2d(images, weight, bias, 1, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        height, width = gradient.shape[2:]
        rows, columns = weight.shape[2:]
        sums = gradient.new_zeros(len(gradient), height + rows - 1, width + columns - 1)
        taps = weight.flatten(1).T  # (rows * columns, channels)
        for part, own in zip(gradient.split(PART), sums.split(PART), strict=True):
            product = taps @ part.permute(0, 2, 3, 1).flatten(0, 2).T
            product = product.view(rows, columns, len(part), height, width)
            for row in range(rows):
                for column in range(columns):
                    own[:, row : row + height, column : column + width] += product[row, column]
        (top, left), (tall, wide) = ctx.padding, ctx.shape[2:]
        return sums[:, None, top : top + tall, left : left + wide], None, None, None


class InputGradients(TorchFunctionMode):
    """In this context convolutions of grey images that need a gradient are ours; their weights get none.

    It is for the forward pass; the backward pass may follow outside of it.
    """

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call one of torch's functions, or ours in its place."""
        if function is torch.conv2d:
            return _convolution(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _convolution(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    grey = input.dim() == 4 and input.shape[1] == weight.shape[1] == 1 and input.device.type == "cpu"
    plain = all(value in (1, (1, 1)) for value in (stride, dilation))
    sides = (padding, padding) if isinstance(padding, int) else padding
    measured = isinstance(sides, tuple) and len(sides) == 2  # not "same" or "valid"
    if grey and plain and measured and input.requires_grad and torch.is_grad_enabled():
        return _Convolution.apply(input, weight, bias, sides)
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
