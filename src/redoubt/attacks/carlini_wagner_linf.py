"""Carlini-Wagner l-infinity: c times a hinge on the margin plus what exceeds tau, a bound that shrinks with success.

Source: Carlini and Wagner (S&P 2017), section VI-C; objective f6 of section V. Untargeted, against the true label.
Deviation, all for fewer steps to the same or a smaller maximum:
- Every image has its own tau, c and number of tries, and leaves when it is done. A tau has succeeded as soon as one
  point is misclassified within it, and the next follows at once from there.
- When a tau fails, c doubles and the next tau lies at the geometric mean of the one that failed and the best maximum
  so far, until they are close; the paper ends an image there.
- Steps are of one length along the sign of the gradient, which is steepest descent in l-infinity, where the authors'
  program has Adam. They begin as long as tau was lowered and fall to zero in the course of a try.
- The search starts at the nearest boundary of the linearised model, not at the image. While no example is known there
  is no tau, and steps grow fourfold from try to try.
- The box is kept by clipping, an alternative of section V-B, in place of tanh.
- At the end the perturbation shrinks by bisection for as long as the image stays misclassified.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface
from redoubt.attacks._geometry import clip, like
from redoubt.attacks._hinge import LARGEST_C, OVERSHOOT, Found, Rows, linearise, ranges, shorten, shortfall
from redoubt.lazily import torch
from redoubt.records import Positive, Strict

NEEDS = "gradients"
THREAT = "l-infinity, minimum norm"
COST = "50 x steps forward and backward passes at most, about 6 x steps with the default tolerance"
ENGINES = ("redoubt",)

LIMIT = 50  # multiple of `steps` after which an image leaves in any case
GROWTH, TRIES = 4.0, 10  # of the length of steps, and how often, while no example is known


class Parameters(Strict):
    """Parameters of the l-infinity attack; the perturbation is unbounded, in units of the attacked space."""

    steps: Annotated[int, Field(gt=0)] = Field(40, description="steps without success after which a tau has failed")
    shrink: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="first factor from the maximum of a perturbation that succeeded to the next tau"
    )
    tolerance: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.005, description="an image is done when tau would shrink by less than this share"
    )
    initial_c: Positive | None = Field(
        None,
        description="first weight of the hinge, in units of the attacked space per unit of a logit; null: for each "
        "image twice the weight at which its steepest pixel is worth a step beyond tau",
    )
    confidence: Annotated[float, Field(ge=0)] = Field(
        0.0, description="margin, in units of the logits, by which the wrong class must lead"
    )


@dataclass
class Live(Rows):
    """The images that are still worked on; every tensor has a row for each."""

    rows: torch.Tensor  # places in the batch
    clean: torch.Tensor  # (A, ...)
    labels: torch.Tensor
    points: torch.Tensor  # (A, ...)
    best: torch.Tensor  # (A, ...) example of the smallest maximum
    size: torch.Tensor  # that maximum, infinite where there is none
    best_c: torch.Tensor  # c when it was found
    c: torch.Tensor
    tau: torch.Tensor  # infinite where no example is known
    shrink: torch.Tensor  # factor from a maximum to the next tau
    reach: torch.Tensor  # what steps are a share of where no example is known
    widest: torch.Tensor  # and its limit
    age: torch.Tensor  # steps since the last success or failure
    tries: torch.Tensor  # failures

    def record(self, found: Found) -> None:
        """Copy the best examples into what was found of the whole batch."""
        found.points[self.rows], found.sizes[self.rows], found.c[self.rows] = self.best, self.size, self.best_c


def enter(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    logits: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None,
) -> Live:
    """Return all images of a batch at the beginning, each at the nearest boundary of the linearised model."""
    distances, slopes, _ = linearise(network, inputs, labels, logits, parameters.confidence, 1)
    widest = ranges(inputs, bounds)
    reach = torch.minimum(distances, widest)
    c = (2.0 / slopes.flatten(1).abs().amax(1).clamp_min(1.0 / LARGEST_C)).clamp_max(LARGEST_C)
    none, count = torch.full_like(c, math.inf), torch.zeros_like(labels)
    return Live(
        rows=torch.arange(len(labels), device=inputs.device),
        clean=inputs,
        labels=labels,
        points=clip(inputs + like(OVERSHOOT * reach, inputs) * slopes.sign(), bounds),
        best=inputs,
        size=none,
        best_c=torch.full_like(c, math.nan),
        c=c if parameters.initial_c is None else torch.full_like(c, parameters.initial_c),
        tau=none,
        shrink=torch.full_like(c, parameters.shrink),
        reach=torch.where(reach > 0.0, reach, widest),
        widest=widest,
        age=count,
        tries=count,
    )


def judge(live: Live, maxima: torch.Tensor, wrong: torch.Tensor, steps: int) -> None:
    """Keep the best examples and set c and tau.

    Args:
        live: changed in place.
        maxima: (A,) of the perturbations.
        wrong: (A,) bool: the point is an example.
        steps: without success until a tau has failed.
    """
    better = wrong & (maxima < live.size)
    live.best = torch.where(like(better, live.best), live.points, live.best)
    live.best_c = torch.where(better, live.c, live.best_c)
    live.size = torch.where(better, maxima, live.size)

    success = wrong & (maxima <= live.tau)
    live.age = torch.where(success, 0, live.age + 1)
    failure = live.age >= steps
    live.age = torch.where(failure, 0, live.age)
    live.tries = live.tries + failure
    live.c = torch.where(failure, (2.0 * live.c).clamp_max(LARGEST_C), live.c)
    live.shrink = torch.where(failure & (live.size < math.inf), live.shrink.sqrt(), live.shrink)
    live.tau = torch.where(success | failure, live.shrink * live.size, live.tau)
    live.reach = torch.where(failure, torch.minimum(GROWTH * live.reach, live.widest), live.reach)


def step(
    live: Live,
    moved: torch.Tensor,
    slopes: torch.Tensor,
    wrong: torch.Tensor,
    steps: int,
    bounds: tuple[float, float] | None,
) -> None:
    """Move the points by one step down the objective.

    Args:
        live: changed in place.
        moved: (A, ...) perturbations.
        slopes: (A, ...) gradients of the margins.
        wrong: (A,) bool: the point is an example, and the hinge zero.
        steps: of a try.
        bounds: range of an input element, or None.
    """
    excess = torch.where(moved.abs() > like(live.tau, moved), moved.sign(), 0.0)
    gradient = excess.addcmul_(slopes, like(live.c * ~wrong, slopes), value=-1.0)
    reach = torch.where(live.size < math.inf, live.tau, live.reach)
    lengths = (1.0 - live.shrink) * reach * (1.0 - live.age / steps)
    live.points = clip(live.points.addcmul(gradient.sign_(), like(lengths, moved), value=-1.0), bounds)


def attack(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None = None,
) -> Found:
    """Search the example of the smallest maximum; images that are misclassified already stay as they are.

    Args:
        network: inputs (B, ...) to logits (B, classes), in eval mode.
        inputs: (B, ...) clean.
        labels: (B,) true classes.
        parameters: see `Parameters`.
        bounds: range of an input element, or None.

    Randomness: none.
    """
    with torch.no_grad():
        logits = network(inputs)
    live, goal = enter(network, inputs, labels, logits, parameters, bounds), losses.Goal("margin")
    already = logits.argmax(1) != labels
    found = Found.nothing(inputs, already)
    live = live.keep((~already).nonzero()[:, 0])
    for iteration in range(LIMIT * parameters.steps):
        if not len(live.rows):
            break
        look, slopes = goal.ascent(network, live.points, live.labels)
        moved = live.points - live.clean
        wrong = shortfall(look.logits, look.rank, parameters.confidence) < 0.0
        judge(live, moved.flatten(1).abs().amax(1), wrong, parameters.steps)
        active = torch.where(live.size < math.inf, 1.0 - live.shrink >= parameters.tolerance, live.tries < TRIES)
        found.iterations[live.rows] += active.long()
        step(live, moved, slopes, wrong, parameters.steps, bounds)
        if interface.thin_now(iteration, inputs.device):
            left = active.nonzero()[:, 0]
            if len(left) < len(active):
                live.record(found)
                live = live.keep(left)
    live.record(found)
    rows = (~already & (found.sizes < math.inf)).nonzero()[:, 0]
    if len(rows):
        points = shorten(network, inputs[rows], labels[rows], found.points[rows], parameters.confidence)
        found.points[rows] = points = clip(points, bounds)
        found.sizes[rows] = (points - inputs[rows]).flatten(1).abs().amax(1)
    return found


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield l-infinity Carlini-Wagner examples, away from the true class."""
    for start, inputs, labels in batches:
        yield attack(network, inputs, labels, parameters, context.bounds).crafted(start)
