"""Carlini-Wagner l2: the nearest misclassified image, by Adam on squared distance plus c times a hinge on the margin.

Source: Carlini and Wagner (S&P 2017), sections V (objective f6) and VI-A (l2, search for c). Untargeted, against the
true label. Deviation, all for fewer steps to the same or a smaller distance:
- The box is kept by projection after every step, an alternative of section V-B, in place of tanh, which is flat where
  an image is black or white. That is also how a space without bounds is treated: by steps on the image itself.
- The first search of an image starts at the nearest boundary of the linearised model, with steps of at most 0.3 of the
  way there; so do further ones while c is too small for that model. The others start at the clean image. The objective
  alone would follow the likeliest wrong class, not the nearest.
- The first c of an image is twice the multiplier of that linearised problem, in place of one constant for all. Until
  the objective crosses the boundary c grows 10, 100, 1000...-fold, to that first value at least. Then it is halved,
  from that value at most, until it fails; then it is the geometric mean of the largest c that failed and the smallest
  that succeeded.
- Adam's second moment is the mean over an image, so that steps keep to the gradient, which is the direction of
  steepest descent in l2; its first moment forgets by 0.5 a step, not 0.9. Steps shrink to 0.3 of their length whenever
  the objective has stalled for 3 % of the steps of a search.
- With `abort_early` an image leaves a search when it stalls for the third time, and the attack when a search after the
  first success shortens its perturbation by less than 0.1 %; the batch never waits for its slowest image.
- The nearest example of a search is moved towards the clean image for as long as it stays misclassified, by bisection.
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
THREAT = "l2, minimum norm"
COST = "searches x steps forward and backward passes at most, about a tenth of them with abort_early"
ENGINES = ("redoubt", "foolbox")

DECAYS, EPSILON = (0.5, 0.999), 1e-8  # of Adam
SHARE = 0.3  # of the way to the nearest boundary: a first step at most
PATIENCE, PROGRESS = 0.03, 1e-4  # stalled: no relative progress of this size in this share of the steps
CUT, STALLS = 0.3, 3
GAIN = 1e-3  # relative shortening for which a further search is made


class Parameters(Strict):
    """Parameters of the l2 attack; the perturbation is unbounded and measured in units of the attacked space."""

    steps: Annotated[int, Field(gt=0)] = Field(
        1000, description="Adam's steps in a search at most; 1000 in the authors' program and in Perceptual Prior"
    )
    searches: Annotated[int, Field(gt=0)] = Field(
        4, description="values of c tried for an image at most; 9 in the authors' program, 4 in Perceptual Prior"
    )
    initial_c: Positive | None = Field(
        None,
        description="first weight of the hinge, in squared units of the attacked space per unit of a logit; null: for "
        "each image by linearisation, 1e-3 for Foolbox",
    )
    learning_rate: Positive = Field(
        0.01,
        description="Adam's step, as a share of the range of the bounds, or of the image's own range, with zero, where "
        "there are none; for Foolbox in the space of tanh",
    )
    confidence: Annotated[float, Field(ge=0)] = Field(
        0.0, description="margin, in units of the logits, by which the wrong class must lead"
    )
    abort_early: bool = Field(True, description="images leave when they make no progress; else all steps are taken")


@dataclass
class Live(Rows):
    """The images that a search still works on; every tensor has a row for each."""

    rows: torch.Tensor  # places among the images of the search
    clean: torch.Tensor  # (A, ...)
    labels: torch.Tensor
    c: torch.Tensor
    points: torch.Tensor  # (A, ...)
    best: torch.Tensor  # (A, ...) nearest example so far
    nearest: torch.Tensor  # its squared distance, infinite where there is none
    beyond: torch.Tensor  # the last point was an example
    crossed: torch.Tensor  # a step has led to an example
    rates: torch.Tensor  # Adam's step now
    widest: torch.Tensor  # and at most
    first: torch.Tensor  # (A, ...) Adam's moments
    second: torch.Tensor
    lowest: torch.Tensor  # objective
    since: torch.Tensor  # steps since it last fell
    stalls: torch.Tensor


def enter(
    clean: torch.Tensor,
    labels: torch.Tensor,
    starts: torch.Tensor,
    c: torch.Tensor,
    rates: torch.Tensor,
    widest: torch.Tensor,
) -> Live:
    """Return images at the beginning of a search.

    Args:
        clean: (B, ...) inputs that distances are measured from.
        labels: (B,) true classes.
        starts: (B, ...) first points, within the bounds.
        c: (B,) weight of the hinge.
        rates: (B,) Adam's first step, in units of the space.
        widest: (B,) its step where no example is met, in units of the space.
    """
    none, count, flag = torch.full_like(c, math.inf), torch.zeros_like(labels), torch.ones_like(labels).bool()
    return Live(
        rows=torch.arange(len(labels), device=clean.device),
        clean=clean,
        labels=labels,
        c=c,
        points=starts,
        best=clean,
        nearest=none,
        beyond=flag,
        crossed=~flag,
        rates=rates,
        widest=widest,
        first=torch.zeros_like(clean),
        second=torch.zeros_like(c),
        lowest=none,
        since=count,
        stalls=count,
    )


def note(live: Live, squares: torch.Tensor, wrong: torch.Tensor) -> None:
    """Remember the points that are examples, (A,) `wrong`, and nearer than those before."""
    nearer = wrong & (squares < live.nearest)
    live.nearest = torch.where(nearer, squares, live.nearest)
    live.best = torch.where(like(nearer, live.best), live.points, live.best)
    live.crossed = live.crossed | (wrong & ~live.beyond)
    live.beyond = wrong


def watch(live: Live, objective: torch.Tensor, patience: int) -> None:
    """Count steps without progress of the objective (A,); one that stalls takes smaller steps, or full ones at last.

    Full steps are for images that have met no example yet: the first search may have begun with too small ones.
    """
    progress = objective < (1.0 - PROGRESS) * live.lowest
    live.lowest = torch.where(progress, objective, live.lowest)
    since = torch.where(progress, 0, live.since + 1)
    stalled = since >= patience
    live.since = torch.where(stalled, 0, since)
    live.stalls = live.stalls + stalled
    changed = torch.where(live.nearest < math.inf, CUT * live.rates, live.widest)
    live.rates = torch.where(stalled, changed, live.rates)


def step(live: Live, gradient: torch.Tensor, iteration: int, bounds: tuple[float, float] | None) -> None:
    """Move the points by Adam's step number `iteration`, from 0, in place."""
    live.first.lerp_(gradient, 1.0 - DECAYS[0])
    live.second.lerp_(gradient.flatten(1).square().mean(1), 1.0 - DECAYS[1])
    unbias = math.sqrt(1.0 - DECAYS[1] ** (iteration + 1)) / (1.0 - DECAYS[0] ** (iteration + 1))
    lengths = unbias * live.rates / (live.second.sqrt() + EPSILON)
    live.points = clip(live.points.addcmul(live.first, like(lengths, live.first), value=-1.0), bounds)


@dataclass
class Ended:
    """What a search found for each image."""

    points: torch.Tensor  # (B, ...) nearest example, the clean image where there was none
    found: torch.Tensor  # (B,) bool: there was one
    crossed: torch.Tensor  # (B,) bool: the objective led to one, wherever the search started
    iterations: torch.Tensor  # (B,) steps

    def take(self, live: Live) -> None:
        """Copy what is known of the live images."""
        self.points[live.rows], self.found[live.rows] = live.best, live.nearest < math.inf
        self.crossed[live.rows] = live.crossed


def search(network: Callable, live: Live, parameters: Parameters, bounds: tuple[float, float] | None) -> Ended:
    """Minimise the objective of every image for its c, in at most `steps` steps.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        live: all images, as `enter` returns them.
        parameters: see `Parameters`.
        bounds: range of an input element, or None.
    """
    goal, none = losses.Goal("margin"), torch.zeros_like(live.labels)
    ended = Ended(live.clean.clone(), none.bool(), none.bool(), none)
    for iteration in range(parameters.steps):
        look, slopes = goal.ascent(network, live.points, live.labels)
        moved = live.points - live.clean
        squares = moved.flatten(1).square().sum(1)
        short = shortfall(look.logits, look.rank, parameters.confidence)
        note(live, squares, short < 0.0)
        watch(live, squares + live.c * short.clamp_min(0.0), math.ceil(PATIENCE * parameters.steps))
        active = live.stalls < STALLS if parameters.abort_early else torch.ones_like(live.beyond)
        ended.iterations[live.rows] += active.long()
        gradient = moved.mul_(2.0).addcmul_(slopes, like(live.c * (short >= 0.0), slopes), value=-1.0)
        step(live, gradient, iteration, bounds)
        if parameters.abort_early and interface.thin_now(iteration, live.points.device):
            left = active.nonzero()[:, 0]
            if len(left) < len(active):
                ended.take(live)
                live = live.keep(left)
            if not len(left):
                break
    ended.take(live)
    return ended


def next_c(c: torch.Tensor, linearised: torch.Tensor, low: torch.Tensor, high: torch.Tensor, done: int) -> torch.Tensor:
    """Return the c (B,) to try after `done` searches.

    Args:
        c: (B,) tried last.
        linearised: (B,) of the linearised problem, the least to try after a failure and the most after a success.
        low: (B,) largest that failed, 0 where none did.
        high: (B,) smallest that succeeded, infinite where none did.
        done: at least 1.
    """
    bracketed = torch.where(low > 0.0, (low * high).sqrt(), torch.minimum(c / 2.0, linearised))
    return torch.where(high < math.inf, bracketed, torch.maximum(10.0**done * c, linearised)).clamp_max(LARGEST_C)


def attack(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None = None,
) -> Found:
    """Search the nearest example of each image; those that are misclassified already stay as they are.

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
    wrong = logits.argmax(1) != labels
    distances, slopes, norms = linearise(network, inputs, labels, logits, parameters.confidence, 2)
    linearised = (4.0 * distances / norms).clamp(1.0 / LARGEST_C, LARGEST_C)
    across, root = ranges(inputs, bounds), math.sqrt(inputs[0].numel())
    starts = inputs + like(OVERSHOOT * torch.minimum(distances, root * across) / norms, inputs) * slopes
    starts = clip(starts, bounds)
    widest = parameters.learning_rate * across
    rates = torch.minimum(widest, SHARE / root * distances)

    c = linearised if parameters.initial_c is None else torch.full_like(linearised, parameters.initial_c)
    low, high = torch.zeros_like(c), torch.full_like(c, math.inf)
    best = Found.nothing(inputs, wrong)
    waiting = ~wrong
    for done in range(1, parameters.searches + 1):
        rows = waiting.nonzero()[:, 0]
        if not len(rows):
            break
        clean, own, before = inputs[rows], labels[rows], best.sizes[rows]
        live = enter(clean, own, starts[rows], c[rows], rates[rows], widest[rows])
        ended = search(network, live, parameters, bounds)
        points = clip(shorten(network, clean, own, ended.points, parameters.confidence), bounds)
        sizes = torch.where(ended.found, (points - clean).flatten(1).norm(dim=1), math.inf)
        nearer = sizes < before
        best.points[rows] = torch.where(like(nearer, points), points, best.points[rows])
        best.sizes[rows] = torch.where(nearer, sizes, before)
        best.c[rows] = torch.where(nearer, c[rows], best.c[rows])
        best.iterations[rows] += ended.iterations
        low[rows] = torch.where(ended.crossed, low[rows], c[rows])
        high[rows] = torch.where(ended.crossed, c[rows], high[rows])
        tried = (c >= linearised) | (high < math.inf)
        starts, rates = torch.where(like(tried, inputs), inputs, starts), torch.where(tried, widest, rates)
        c = next_c(c, linearised, low, high, done)
        if parameters.abort_early:
            waiting[rows] = (before == math.inf) | (sizes < (1.0 - GAIN) * before)
    return best


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield l2 Carlini-Wagner examples, away from the true class."""
    for start, inputs, labels in batches:
        yield attack(network, inputs, labels, parameters, context.bounds).crafted(start)
