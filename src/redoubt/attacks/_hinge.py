"""What both Carlini-Wagner attacks are made of: a hinge on the margin, the linearised model, and shortening at the end.

Source: Carlini and Wagner (S&P 2017), section V (objective f6); the deviations are listed in the attacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

from redoubt.attacks import _losses as losses
from redoubt.attacks import deepfool, interface
from redoubt.attacks._geometry import like
from redoubt.lazily import torch

CANDIDATES = 9  # wrong classes whose boundaries are compared
OVERSHOOT = 1.001  # of the way to the nearest of them, where a search starts
LARGEST_C = 1e10
BISECTIONS = 12
SLACK = 1e-5  # relative to the logits: more than they change with the batch that an image is in
TINY = 1e-15  # below this a gradient counts as zero


@dataclass
class Rows:
    """A dataclass of tensors that have a row for each image which is still worked on."""

    def keep(self, left: torch.Tensor) -> Self:
        """Return the images at the places `left`."""
        return type(self)(*(getattr(self, field.name)[left] for field in fields(self)))


@dataclass
class Found:
    """The best examples of a batch."""

    points: torch.Tensor  # (B, ...); the clean image where none was found or needed
    sizes: torch.Tensor  # (B,) norm of the perturbation, infinite where none was found
    c: torch.Tensor  # (B,) weight of the hinge with which it was found, NaN where none was
    iterations: torch.Tensor  # (B,) steps

    @classmethod
    def nothing(cls, inputs: torch.Tensor, wrong: torch.Tensor) -> Self:
        """Return what is known of inputs (B, ...) before any step; those `wrong` (B,) already need none."""
        sizes = torch.where(wrong, 0.0, inputs.new_full((len(inputs),), math.inf))
        return cls(inputs.clone(), sizes, torch.full_like(sizes, math.nan), torch.zeros_like(wrong, dtype=torch.int64))

    def crafted(self, start: int) -> interface.Crafted:
        """Return them as the attack of the batch that begins at image `start`."""
        facts = {"iterations": self.iterations.cpu().numpy(), "c": self.c.cpu().numpy()}
        return interface.Crafted(start, self.points, facts)


def shortfall(logits: torch.Tensor, margins: torch.Tensor, confidence: float) -> torch.Tensor:
    """Return by how much margins (B,) fall short of the confidence, below zero for examples.

    A little more than the confidence is asked for, so that an example remains one when rounding differs.
    """
    return confidence + SLACK * logits.abs().amax(1) - margins


def ranges(inputs: torch.Tensor, bounds: tuple[float, float] | None) -> torch.Tensor:
    """Return the range of the bounds, or where there are none of each image and zero, or 1 if that is nothing, (B,)."""
    if bounds is not None:
        return inputs.new_full((len(inputs),), bounds[1] - bounds[0])
    own = inputs.flatten(1).amax(1).clamp_min(0.0) - inputs.flatten(1).amin(1).clamp_max(0.0)
    return torch.where(own > 0.0, own, 1.0)


def linearise(
    network: Callable, inputs: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, confidence: float, dual: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find the nearest boundary of the linearised model.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        inputs: (B, ...) clean.
        labels: (B,) true classes.
        logits: (B, classes) of `inputs`.
        confidence: margin wanted.
        dual: norm of gradients that is dual to the norm of distances: 2 for l2, 1 for l-infinity.

    Returns:
        Distance to it (B,); gradient of the margin of its class (B, ...); norm of that gradient (B,), never zero.

    Cost: one forward pass, at most CANDIDATES backward passes.
    """
    others = logits.scatter(1, labels[:, None], -math.inf).topk(min(CANDIDATES, logits.shape[1] - 1)).indices
    f, w = deepfool.linearise(*deepfool.forward(network, inputs), labels, others)
    norms = w.flatten(2).norm(p=dual, dim=2).T.clamp_min(TINY)  # (B, K)
    distances, nearest = ((confidence - f).clamp_min(0.0) / norms).min(1)
    picked = torch.arange(len(inputs), device=inputs.device)
    return distances, w[nearest, picked], norms[picked, nearest]


def shorten(
    network: Callable, clean: torch.Tensor, labels: torch.Tensor, points: torch.Tensor, confidence: float
) -> torch.Tensor:
    """Return `points` (B, ...) moved towards the clean images as far as bisection sees them stay examples.

    Cost: BISECTIONS forward passes.
    """
    low, high = torch.zeros_like(points.flatten(1)[:, 0]), torch.ones_like(points.flatten(1)[:, 0])
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        with torch.no_grad():
            look = losses.Goal("margin").look(network, torch.lerp(clean, points, like(middle, points)), labels)
        wrong = shortfall(look.logits, look.rank, confidence) < 0.0
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return torch.lerp(clean, points, like(high, points))
