"""Walks around the nearest boundary of each image: what DDN and FMN have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface
from redoubt.attacks._counting import Counted, facts
from redoubt.attacks._geometry import ORDER, clip, like
from redoubt.attacks._hinge import BISECTIONS, Rows, shorten, shortfall
from redoubt.lazily import torch


def cosine(first: float, last: float, share: float) -> float:
    """Return what lies between two values after a share of the steps, by half a period of the cosine."""
    return last + (first - last) * (1.0 + math.cos(math.pi * share)) / 2.0


@dataclass
class Walk(Rows):
    """The images that still walk; every tensor has a row for each."""

    rows: torch.Tensor  # places in the batch
    clean: torch.Tensor  # (A, ...)
    labels: torch.Tensor
    points: torch.Tensor  # (A, ...)
    sizes: torch.Tensor  # (A,) norm of the perturbation at the points
    wrong: torch.Tensor  # (A,) bool: the points are examples
    best: torch.Tensor  # (A, ...) nearest example so far
    nearest: torch.Tensor  # (A,) its norm, infinite where there is none
    radii: torch.Tensor  # (A,) of the ball that the attack keeps to

    def note(self, wrong: torch.Tensor, norm: str) -> None:
        """Remember the points that are examples, (A,) `wrong`, and nearer than those before."""
        self.sizes = (self.points - self.clean).flatten(1).norm(p=ORDER[norm], dim=1)
        self.wrong, nearer = wrong, wrong & (self.sizes < self.nearest)
        self.nearest = torch.where(nearer, self.sizes, self.nearest)
        self.best = torch.where(like(nearer, self.best), self.points, self.best)


def clearly(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Tell of each image (B,) whether it is misclassified by more than rounding, as the nearest examples must be."""
    return shortfall(logits, losses.margin(logits, labels), 0.0) < 0.0


Step = Callable[[Walk, "torch.Tensor", "torch.Tensor", float], "torch.Tensor"]
"""Walk, heights (A,), gradients (A, ...) and the share of the steps that are done, to the next points (A, ...)."""


def walk(
    network: Callable,
    batch: tuple[int, torch.Tensor, torch.Tensor],
    step: Step,
    *,
    loss: losses.Name,
    norm: str,
    radius: float,
    steps: int,
    bounds: tuple[float, float] | None,
    limit: int | None,
    shortened: bool,
) -> interface.Crafted:
    """Walk from the images of a batch and return the nearest examples that were met, the clean image where none was.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        batch: first place among all images, inputs (B, ...), labels (B,).
        step: gives the next points, which are clipped to the bounds.
        loss: whose gradient and height are followed.
        norm: in which distances are measured.
        radius: at the beginning.
        steps: at most.
        bounds: range of an input element, or None.
        limit: queries of an image, or None.
        shortened: at the end examples move towards the clean image, by bisection.
    """
    start, inputs, labels = batch
    asked, goal = Counted.begin(network, inputs, limit), losses.Goal(loss)
    found, iterations, reserve = inputs.clone(), torch.zeros_like(labels), BISECTIONS if shortened else 0
    none = torch.full_like(inputs.flatten(1)[:, 0], math.inf)
    live = Walk(asked.rows, inputs, labels, inputs, none, labels < 0, inputs, none, torch.full_like(none, radius))
    for iteration in range(steps + 1):
        own = asked.of(live.rows)
        logits, heights, gradient = goal.gradient(own, live.points, live.labels)
        clear = logits.argmax(1) != live.labels if iteration == 0 else clearly(logits, live.labels)
        live.note(clear, norm)
        found[live.rows] = live.best
        left = ((live.nearest > 0.0) & (own.left() >= 2 + reserve)).nonzero()[:, 0]
        if iteration == steps or not len(left):
            break
        if len(left) < len(live.rows):
            live, heights, gradient = live.keep(left), heights[left], gradient[left]
        live.points = clip(step(live, heights, gradient, iteration / steps), bounds)
        iterations[live.rows] += 1
    if shortened and len(rows := (found != inputs).flatten(1).any(1).nonzero()[:, 0]):
        moved = shorten(asked.of(rows), inputs[rows], labels[rows], found[rows], 0.0)
        found[rows] = clip(moved, bounds)
    return interface.Crafted(start, found, {"iterations": iterations.cpu().numpy(), **facts(asked.spent)})
