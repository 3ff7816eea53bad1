"""Finite differences: steps along the sign of a loss gradient that is estimated from queries of the logits.

Source: Bhagoji, He, Li and Song (ECCV 2018): two-sided differences, random groups, a single step and many; PeerNets,
appendix E, compares both with a white box. Deviation: their public code clips the probes too, but divides by twice
delta all the same, follows the runner-up class of the image where each probe has its own here, and never stops early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from redoubt.attacks import _losses as losses
from redoubt.attacks import _querying as querying
from redoubt.attacks import fgs, interface
from redoubt.attacks._geometry import clip, like
from redoubt.lazily import torch
from redoubt.records import Positive, Strict

NEEDS = "logits"  # of the attack that the paper means; `gradient: exact` is its white-box twin, and needs gradients
THREAT = "l-infinity ball of radius epsilon"
COST = "1 + steps x (2 x ceil(input size / group) + 1) forward passes at most"
ENGINES = ("redoubt",)
SWEEP = {"epsilon": "epsilons"}


class Parameters(Strict):
    """Parameters of the finite-difference attack; lengths are in units of the attacked space."""

    epsilons: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] = Field(
        [0.3], description="radii of the linf ball, a sweep in rising order"
    )
    steps: Annotated[int, Field(gt=0)] = Field(1, description="steps at most; 1 is the single-step attack")
    step_size: Positive | None = Field(None, description="length of a step in linf; epsilon / steps when null")
    delta: Positive = Field(0.01, description="how far a probe moves a coordinate, either way")
    group: Annotated[int, Field(gt=0)] = Field(
        1, description="coordinates that a probe moves together, drawn at random; 1: each coordinate alone"
    )
    loss: losses.Name = Field("margin", description="whose gradient is estimated; margin is the paper's logit loss")
    gradient: Literal["estimated", "exact"] = Field(
        "estimated", description="exact: the same steps along the true gradient, as a white box takes them"
    )
    stop: bool = Field(True, description="query the image after each step, and stop it once it is misclassified")

    @model_validator(mode="after")
    def _rising(self) -> Parameters:
        if self.epsilons != sorted(set(self.epsilons)):
            raise ValueError("give each epsilon once, in rising order")
        return self


def estimate(
    network: Callable,
    points: torch.Tensor,
    labels: torch.Tensor,
    loss: losses.Name,
    delta: float,
    bounds: tuple[float, float] | None = None,
    group: int = 1,
    orders: torch.Tensor | None = None,
) -> torch.Tensor:
    """Estimate the gradient of the loss at `labels` by two-sided differences.

    A probe moves all coordinates of a group by `delta`, but none out of the bounds; the difference of the losses is
    divided by the distance that the group's coordinates really moved, summed. Each coordinate of the group gets the
    quotient: the mean partial derivative of the group, which is the gradient's projection on the group's indicator.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        points: (A, ...) where to estimate, inside the bounds.
        labels: (A,) true classes.
        loss: which one.
        delta: how far a probe goes.
        bounds: range of an input element; None where the space has none.
        group: coordinates of a group; the last group may have fewer.
        orders: (A, D) int64, a permutation of each image's coordinates, whose runs of `group` are the groups;
            None: as they come.

    Returns:
        Shaped as `points`; zero for a group that cannot move.

    Cost: 2 * ceil(D / group) forward passes an image.
    """
    flat = points.flatten(1)
    ahead, behind = flat + delta, flat - delta
    if bounds is not None:
        ahead, behind = ahead.clamp(*bounds), behind.clamp(*bounds)
    count, size = flat.shape
    group = min(group, size)
    groups = -(-size // group)
    if orders is None:
        orders = torch.arange(size, device=flat.device).expand(count, size)
    padding = groups * group - size
    # The last group is filled up with its own last coordinate, which is then written twice.
    members = torch.cat([orders, orders[:, -1:].expand(-1, padding)], 1)
    ends = torch.stack([part.gather(1, members).view(-1, group) for part in (ahead, behind)], 1).flatten(0, 1)
    members = members.view(-1, group)

    def probe(copies: torch.Tensor, low: int, high: int) -> None:
        own = torch.arange(low, high, device=flat.device).div(2, rounding_mode="floor")
        copies.view(len(copies), size).scatter_(1, members[own], ends[low:high])

    values, _ = querying.query(network, points, labels, 2 * groups, probe, loss)
    rise = values.view(count, groups, 2)
    rise = rise[:, :, 0] - rise[:, :, 1]
    moved = torch.nn.functional.pad((ahead - behind).gather(1, orders), (0, padding)).view(count, groups, group).sum(2)
    slopes = torch.where(moved > 0, rise / moved, 0).repeat_interleave(group, 1)[:, :size]
    return torch.empty_like(flat).scatter_(1, orders, slopes).view_as(points)


def direction(
    network: Callable,
    points: torch.Tensor,
    labels: torch.Tensor,
    parameters: Parameters,
    context: interface.Context,
    places: list[int],
    step: int,
) -> torch.Tensor:
    """Return the sign of the loss gradient, estimated or exact, as int8 shaped as `points`.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        points: (A, ...).
        labels: (A,) true classes.
        parameters: see `Parameters`.
        context: brings bounds and draws.
        places: of the images among all attacked ones; with `step`, they key the draw of the groups.
        step: number of the step, from 0.
    """
    if parameters.gradient == "exact":
        return fgs.direction(network, points, labels, parameters.loss)
    orders = None
    if parameters.group > 1:
        draws = context.generators(places, "finite-difference", step)
        drawn = [torch.randperm(points[0].numel(), generator=draw) for draw in draws]
        orders = torch.stack(drawn).to(points.device)
    delta, bounds, group = parameters.delta, context.bounds, parameters.group
    return estimate(network, points, labels, parameters.loss, delta, bounds, group, orders).sign().to(torch.int8)


def ascend(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    signs: torch.Tensor,
    epsilon: float,
    parameters: Parameters,
    context: interface.Context,
    places: list[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Step along gradient signs inside the ball and the bounds, from the image itself.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        inputs: (N, ...) inputs that are classified right, N > 0.
        labels: (N,) true classes.
        signs: (N, ...) int8, the direction at `inputs`.
        epsilon: radius of the linf ball.
        parameters: see `Parameters`.
        context: brings bounds and draws.
        places: of the images among all attacked ones.

    Returns:
        adversarial inputs (N, ...); steps taken (N,) int64.
    """
    length = epsilon / parameters.steps if parameters.step_size is None else parameters.step_size
    moved, taken = inputs.clone(), torch.zeros_like(labels)
    over, rows = torch.zeros_like(labels, dtype=torch.bool), torch.arange(len(labels), device=labels.device)
    for step in range(parameters.steps):
        points, truth, done = moved[rows], labels[rows], over[rows]
        if step:
            signs = direction(network, points, truth, parameters, context, places, step)
        ahead = (points + length * signs).clamp(inputs[rows] - epsilon, inputs[rows] + epsilon)
        moved[rows] = ahead = torch.where(like(done, points), points, clip(ahead, context.bounds))
        taken[rows] += ~done
        if not parameters.stop:
            continue
        with torch.no_grad():
            over[rows] = done | (network(ahead).argmax(1) != truth)
        if interface.thin_now(step, inputs.device):
            left = (~over[rows]).nonzero()[:, 0]
            if not len(left):
                break
            if len(left) < len(rows):
                rows, places = rows[left], [places[row] for row in left.tolist()]
    return moved, taken


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield finite-difference examples, all images of one epsilon before the next.

    The clean query and the first gradient do not depend on epsilon: a sweep makes them once. The fact `queries` holds
    what an epsilon takes alone.
    """
    starts = []
    for start, inputs, labels in batches:
        with torch.no_grad():
            rows = (network(inputs).argmax(1) == labels).nonzero()[:, 0]
        places = [start + row for row in rows.tolist()]
        own = inputs[rows], labels[rows]
        signs = direction(network, *own, parameters, context, places, 0) if places else None
        starts.append((rows, places, signs))
    for epsilon in parameters.epsilons:
        for (start, inputs, labels), (rows, places, signs) in zip(batches, starts, strict=True):
            moved, taken = inputs.clone(), torch.zeros_like(labels)
            if signs is not None:
                known = inputs[rows], labels[rows], signs, epsilon
                moved[rows], taken[rows] = ascend(network, *known, parameters, context, places)
            exact = parameters.gradient == "exact"
            gradient = 1 if exact else 2 * -(-inputs[0].numel() // parameters.group)
            facts = {
                "epsilon": epsilon,
                "iterations": taken.cpu().numpy(),
                "queries": (1 + taken * (gradient + parameters.stop)).cpu().numpy(),
            }
            yield interface.Crafted(start, moved, facts)
