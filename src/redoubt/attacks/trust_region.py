"""Trust region: steps to the nearest linearised boundary, as far as the linear model has kept its word.

Source: Yao, Gholami, Xu, Keutzer and Mahoney (CVPR 2019), section 3, algorithm 1, with the first-order model; the
class is the one whose linearised boundary is nearest to the clean image. Deviation: an image that stays right walks
again towards the class with the next boundary, since a walk can end where no small step brings its class nearer; a
step ends a little past the linearised boundary where that lies inside the region; elements at a bound do not count
where they would leave it; the thresholds, the factor and the limits of the radius are parameters, in terms of the first
radius, which itself is a share of the distance to that boundary; at the end the example is moved towards the clean
image for as long as it stays misclassified, by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import deepfool, interface, pgd
from redoubt.attacks._counting import Budgeted, Counted, facts
from redoubt.attacks._geometry import DUAL, TINY, clip, like
from redoubt.attacks._hinge import BISECTIONS, Rows, shorten, shortfall
from redoubt.attacks._nearing import clearly
from redoubt.lazily import torch
from redoubt.records import Count, Positive, Share

NEEDS = "gradients"
THREAT = "l-infinity or l2, minimum norm"
COST = "classes + 2 x (steps + 1) x walks + 13 forward and backward passes at most"
ENGINES = ("redoubt",)

PAST = 1.02  # of the way to the linearised boundary
RESERVE = 3 + BISECTIONS  # passes that are left for a step and the way back
FURTHER = 0.005  # of the first radius: a step that is all rounding would end nowhere


class Parameters(Budgeted):
    """Parameters of the trust-region attack; lengths in units of the attacked space."""

    norm: Literal["linf", "l2"] = Field("l2", description="of a step and of the distance")
    steps: Count = Field(100, description="gradient steps at most towards one class")
    classes: Count = Field(9, description="wrong classes among which the nearest is chosen, the likeliest ones")
    walks: Count = Field(3, description="classes, nearest first, towards which an image walks while it stays right")
    radius: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05, description="first radius, as a share of the distance to the linearised boundary"
    )
    limits: tuple[Positive, Positive] = Field((0.1, 1.0), description="of the radius, as multiples of the first one")
    factor: Annotated[float, Field(gt=1)] = Field(1.5, description="by which the radius grows and shrinks")
    shrinks: Share = Field(0.5, description="below this share of the promised gain the radius shrinks")
    grows: Positive = Field(0.8, description="above this share of the promised gain the radius grows")


@dataclass
class Region(Rows):
    """The images that still walk; every tensor has a row for each."""

    rows: torch.Tensor  # places in the batch
    labels: torch.Tensor
    targets: torch.Tensor
    points: torch.Tensor  # (A, ...)
    radii: torch.Tensor  # (A,) now
    firsts: torch.Tensor  # (A,) at the beginning
    leads: torch.Tensor  # (A,) logit of the target less the label's, at the point before
    promised: torch.Tensor  # (A,) rise of it in the step that led here; 0 at the beginning


def nearest(
    asked: Counted, inputs: torch.Tensor, labels: torch.Tensor, parameters: Parameters
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return classes and distances of their linearised boundaries (B, C), nearest first; whether an image is wrong."""
    points, logits = deepfool.forward(asked, inputs)
    seen = logits.detach()
    others = seen.scatter(1, labels[:, None], -math.inf).topk(min(parameters.classes, seen.shape[1] - 1)).indices
    f, w = deepfool.linearise(points, logits, labels, others)
    norms = w.flatten(2).norm(p=DUAL[parameters.norm], dim=2).T.clamp_min(TINY)
    distances, places = (f.abs() / norms).sort(dim=1, stable=True)
    return others.gather(1, places), distances, seen.argmax(1) != labels


def inward(slopes: torch.Tensor, points: torch.Tensor, bounds: tuple[float, float] | None) -> torch.Tensor:
    """Return slopes (A, ...) without the elements that lead out of the bounds at points (A, ...) on them."""
    if bounds is None:
        return slopes
    out = ((points <= bounds[0]) & (slopes < 0.0)) | ((points >= bounds[1]) & (slopes > 0.0))
    return torch.where(out, 0.0, slopes)


def adapted(region: Region, leads: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Return the next radii (A,), from what the last step was to gain and what leads (A,) it has led to."""
    share = (leads - region.leads) / region.promised.clamp_min(TINY)
    radii = torch.where(share > parameters.grows, region.radii * parameters.factor, region.radii)
    radii = torch.where(share < parameters.shrinks, region.radii / parameters.factor, radii)
    radii = torch.where(region.promised > 0.0, radii, region.radii)
    low, high = parameters.limits
    return torch.minimum(torch.maximum(radii, low * region.firsts), high * region.firsts)


def attack(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Walk from each image until it is misclassified, and back along a straight line.

    Returns:
        points (B, ...), the clean image where none was found or needed; steps (B,); passes (2, B).
    """
    asked = Counted.begin(network, inputs, parameters.queries)
    targets, distances, wrong = nearest(asked, inputs, labels, parameters)
    found, iterations, fooled = inputs.clone(), torch.zeros_like(labels), torch.zeros_like(wrong)
    zero = torch.zeros_like(distances[:, 0])
    for target, distance in zip(targets.T[: parameters.walks], distances.T, strict=False):
        firsts = parameters.radius * distance
        live = Region(asked.rows, labels, target, inputs, firsts, firsts, zero, zero)
        live = live.keep((~wrong & ~fooled & (asked.left() >= RESERVE)).nonzero()[:, 0])
        walk(asked, live, found, fooled, iterations, parameters, bounds)
    if len(rows := fooled.nonzero()[:, 0]):
        found[rows] = clip(shorten(asked.of(rows), inputs[rows], labels[rows], found[rows], 0.0), bounds)
    return found, iterations, asked.spent


def walk(
    asked: Counted,
    live: Region,
    found: torch.Tensor,
    fooled: torch.Tensor,
    iterations: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None,
) -> None:
    """Let images step towards their targets; those that are misclassified get into `found` (B, ...), `fooled` (B,)."""
    for iteration in range(parameters.steps + 1):
        if not len(live.rows):
            break
        own = asked.of(live.rows)
        points, logits = deepfool.forward(own, live.points)
        reached = clearly(logits.detach(), live.labels)
        found[live.rows[reached]], fooled[live.rows] = live.points[reached], reached
        leads, slopes = deepfool.linearise(points, logits, live.labels, live.targets[:, None])
        leads, slopes = leads[:, 0], inward(slopes[0], live.points, bounds)
        live.radii, live.leads = adapted(live, leads, parameters), leads
        norms = slopes.flatten(1).norm(p=DUAL[parameters.norm], dim=1)
        short = shortfall(logits.detach(), leads, 0.0).clamp_min(0.0)
        lengths = torch.minimum(live.radii, PAST * short / norms.clamp_min(TINY) + FURTHER * live.firsts)
        moved = clip(live.points + like(lengths, slopes) * pgd.step_along(slopes, parameters.norm), bounds)
        live.promised = ((moved - live.points) * slopes).flatten(1).sum(1)
        live.points = moved
        left = (~reached & (own.left() >= RESERVE)).nonzero()[:, 0]
        if iteration == parameters.steps:
            break
        iterations[live.rows[left]] += 1
        live = live.keep(left)


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield trust-region examples; an image that stays right comes back as it is."""
    for start, inputs, labels in batches:
        points, iterations, spent = attack(network, inputs, labels, parameters, context.bounds)
        yield interface.Crafted(start, points, {"iterations": iterations.cpu().numpy(), **facts(spent)})
