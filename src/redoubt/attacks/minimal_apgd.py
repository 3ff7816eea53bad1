"""Minimal APGD: targeted APGD in a ball that grows until it holds an example, then by bisection: the smallest epsilon.

Source: APGD after Croce and Hein (ICML 2020), algorithm 1, as in `apgd`; the search over epsilon is not theirs. Each
image has its own ball, at first as large as the distance to the nearest boundary of the linearised model. In a ball
that is smaller than one which held an example, a start is that example, projected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import apgd, interface, pgd
from redoubt.attacks._counting import Budgeted, Counted, facts
from redoubt.attacks._geometry import DUAL, ORDER, like
from redoubt.attacks._hinge import linearise
from redoubt.attacks._nearing import clearly
from redoubt.lazily import torch
from redoubt.records import Count, Share

NEEDS = "gradients"
THREAT = "l-infinity or l2, minimum norm"
COST = "balls x targets x (2 x steps + 1) passes at most, and a forward and nine backward passes"
ENGINES = ("redoubt",)


class Parameters(Budgeted):
    """Parameters of the search; epsilon in units of the attacked space."""

    norm: Literal["linf", "l2"] = Field("linf", description="of which the minimum is sought")
    steps: Count = Field(20, description="gradient steps in one ball, for each target")
    targets: Count = Field(4, description="wrong classes that are aimed at in turn, the likeliest first")
    loss: apgd.Name = Field("dlr", description="whose gradient is followed")
    growth: Annotated[float, Field(gt=1)] = Field(1.5, description="factor by which a ball that holds no example grows")
    balls: Count = Field(16, description="balls tried for an image at most, growing and shrinking")
    tolerance: Share = Field(0.01, description="share of epsilon that bisection leaves open when it ends")


class Clear(apgd.Aim):
    """Reached where an image is misclassified by more than rounding, which a search for the smallest ball runs into."""

    def reached(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Tell of each image (B,) whether it is clearly misclassified."""
        return clearly(logits, labels[:, 0])


@dataclass
class Brackets:
    """What is known of each image of a batch."""

    points: torch.Tensor  # (B, ...) nearest example, the clean image where none was found or needed
    low: torch.Tensor  # (B,) largest ball that failed
    high: torch.Tensor  # (B,) norm of the nearest example, infinite where there is none
    trial: torch.Tensor  # (B,) radius of the next ball
    iterations: torch.Tensor  # (B,)

    def learn(self, rows: torch.Tensor, found: pgd.Found, sizes: torch.Tensor, growth: float) -> None:
        """Take what was found in the balls of the images at `rows` (A,), and choose the next balls."""
        won = found.fooled & (sizes < self.high[rows])
        self.points[rows] = torch.where(like(won, found.points), found.points, self.points[rows])
        self.low[rows] = torch.where(found.fooled, self.low[rows], self.trial[rows])
        self.high[rows] = torch.where(won, sizes, self.high[rows])
        self.iterations[rows] += found.iterations
        low, high = self.low[rows], self.high[rows]
        self.trial[rows] = torch.where(high < math.inf, (low + high) / 2.0, growth * self.trial[rows])


def attempt(
    asked: Counted,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    ranked: torch.Tensor,
    starts: torch.Tensor,
    radii: torch.Tensor,
    goal: apgd.Aim,
    parameters: Parameters,
    bounds: tuple[float, float] | None,
) -> pgd.Found:
    """Aim at one class after the other, each from the same starts, in one ball around each image.

    Args:
        asked: the network for these images.
        inputs: (A, ...) centres; A > 0.
        labels: (A,) true classes.
        ranked: (A, K) classes that are aimed at.
        starts: (A, ...) in the balls.
        radii: (A,).
        goal: what is climbed.
        parameters: see `Parameters`.
        bounds: range of an input element, or None.
    """
    none = torch.zeros_like(labels)
    best = pgd.Found(starts.clone(), none.bool(), torch.full_like(radii, -math.inf), none)
    for targets in ranked.T:
        rows = (~best.fooled & (asked.left() >= 2)).nonzero()[:, 0]
        if not len(rows):
            break
        new = apgd.ascend(
            asked.of(rows),
            inputs[rows],
            torch.stack([labels[rows], targets[rows]], 1),
            starts[rows],
            radii[rows],
            goal,
            steps=parameters.steps,
            norm=parameters.norm,
            bounds=bounds,
        )
        apgd.note(best, rows, new.points, new.fooled, new.heights)
        best.iterations[rows] += new.iterations
    return best


def search(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None,
) -> tuple[Brackets, torch.Tensor]:
    """Find the smallest ball around each image in which targeted APGD succeeds.

    Returns:
        what is known of the images (B); their passes (2, B).

    Raises:
        RedoubtError: the loss compares more classes than the model has.
    """
    asked = Counted.begin(network, inputs, parameters.queries)
    with torch.no_grad():
        logits = asked(inputs)
    goal = Clear(parameters.loss, True)
    apgd.check_classes("minimal-apgd", goal, logits.shape[1])
    count = min(parameters.targets, logits.shape[1] - 1)
    ranked = logits.scatter(1, labels[:, None], -math.inf).topk(count).indices
    distances, _, _ = linearise(asked, inputs, labels, logits, 0.0, DUAL[parameters.norm])
    wrong, none = logits.argmax(1) != labels, torch.zeros_like(distances)
    trial = distances.clamp_min(torch.finfo(distances.dtype).tiny)
    known = Brackets(inputs.clone(), none, torch.where(wrong, 0.0, math.inf), trial, torch.zeros_like(labels))
    for _ in range(parameters.balls):
        unsure = known.high - known.low > parameters.tolerance * known.high
        rows = ((known.high > 0.0) & (unsure | (known.high == math.inf)) & (asked.left() >= 2)).nonzero()[:, 0]
        if not len(rows):
            break
        clean, radii = inputs[rows], known.trial[rows]
        starts = pgd.project(known.points[rows], clean, radii, parameters.norm, bounds)
        found = attempt(asked.of(rows), clean, labels[rows], ranked[rows], starts, radii, goal, parameters, bounds)
        sizes = (found.points - clean).flatten(1).norm(p=ORDER[parameters.norm], dim=1)
        known.learn(rows, found, sizes, parameters.growth)
    return known, asked.spent


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the examples of the smallest balls found; an image that stays right comes back as it is."""
    for start, inputs, labels in batches:
        known, spent = search(network, inputs, labels, parameters, context.bounds)
        counts = {"iterations": known.iterations.cpu().numpy(), **facts(spent)}
        yield interface.Crafted(start, known.points, counts)
