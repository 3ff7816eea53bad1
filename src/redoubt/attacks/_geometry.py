"""Points and balls: what attacks of several families compute with batches of images."""

from __future__ import annotations

import math

from redoubt.lazily import torch

TINY = 1e-30  # below this a gradient counts as zero
ORDER = {"l2": 2.0, "linf": math.inf}  # of the norm that lengths are measured in
DUAL = {"l2": 2.0, "linf": 1.0}  # of the norm of gradients that is dual to it


def like(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return values (B,) shaped to multiply images (B, ...)."""
    return values.view(-1, *[1] * (images.dim() - 1))


def clip(points: torch.Tensor, bounds: tuple[float, float] | None) -> torch.Tensor:
    """Return `points` clipped to the bounds, where the space has them."""
    return points if bounds is None else points.clamp(*bounds)


def unit(gradient: torch.Tensor) -> torch.Tensor:
    """Return gradients (B, ...) at unit l2 norm, zero where they are; scaled first, since small squares underflow."""
    scaled = gradient / like(gradient.flatten(1).abs().amax(1).clamp_min(TINY), gradient)
    return scaled / like(scaled.flatten(1).norm(dim=1).clamp_min(TINY), gradient)
