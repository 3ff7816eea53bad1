"""Mean-image subtraction on the 0-255 scale: z = 255 x - mean.

Source: DeepDefense measures its norms in this space for MNIST; the ratio of its rho'_2 to rho_2 gives a mean
||z||_2 of about 1850, which fits 0-255 less the mean image (raw 0-255 would be about 2350).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from redoubt.lazily import lazy, torch
from redoubt.records import Share, Strict

if TYPE_CHECKING:
    from redoubt.preprocessing import _layers as layers
else:
    layers = lazy("redoubt.preprocessing._layers")


class Parameters(Strict):
    """Which mean."""

    channels: list[Share] | None = Field(
        None, description="a fixed mean for every channel, in [0, 1]; the mean image of the training set when null"
    )


def build(parameters: Parameters, shape: tuple[int, int, int]) -> torch.nn.Module:
    """Return the layer; it maps images (N, *shape) in [0, 1] to inputs (N, *shape) around zero, up to +-255."""
    return layers.MeanImage(shape if parameters.channels is None else (shape[0], 1, 1))


def mean_image(batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the mean of all images (C, H, W) on the 0-255 scale, in double precision."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for images in batches:
        total = total + images.double().sum(0)
        count += len(images)
    return 255.0 * total / count


def fit(parameters: Parameters, layer: layers.MeanImage, batches: Callable[[], Iterable[torch.Tensor]]) -> None:
    """Set the mean, from the training images unless it is fixed."""
    if parameters.channels is None:
        layer.mean.copy_(mean_image(batches()))
    else:
        layer.mean.copy_(255.0 * torch.tensor(parameters.channels).view(-1, 1, 1))
