"""Standardised channels: z = (x - mean) / std, by the training images' mean and standard deviation of every channel.

Source: a common practice with residual networks on CIFAR; PeerNets names no preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from redoubt.lazily import lazy, torch
from redoubt.records import Strict

if TYPE_CHECKING:
    from redoubt.preprocessing import _layers as layers
else:
    layers = lazy("redoubt.preprocessing._layers")

FLOOR = 1e-3  # under the standard deviation, for a channel that never changes


class Parameters(Strict):
    """It has none."""


def build(parameters: Parameters, shape: tuple[int, int, int]) -> torch.nn.Module:
    """Return the layer; it maps images (N, *shape) in [0, 1] to inputs (N, *shape) around zero."""
    return layers.Standardised(shape[0])


def fit(parameters: Parameters, layer: layers.Standardised, batches: Callable[[], Iterable[torch.Tensor]]) -> None:
    """Set mean and standard deviation of every channel from two passes over the training images."""
    zero = torch.zeros((), dtype=torch.float64)
    total, count = zero, 0
    for images in batches():
        total = total + images.double().sum((0, 2, 3))
        count += images[:, 0].numel()
    mean = total / count
    squares = sum(((images.double() - mean.view(-1, 1, 1)).square().sum((0, 2, 3)) for images in batches()), zero)
    layer.mean.copy_(mean.view(-1, 1, 1))
    layer.std.copy_((squares / count).sqrt().clamp_min(FLOOR).view(-1, 1, 1))
