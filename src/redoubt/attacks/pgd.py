"""Projected gradient descent: signed or normalised gradient steps, each projected on the ball around the clean image.

Without a random start and with steps of epsilon / steps it is the iterative fast gradient sign method (I-FGSM).
Source: Madry et al. (ICLR 2018), section 2.1; Kurakin et al. (ICLR 2017 workshop) for I-FGSM; Perceptual Prior, section
4, for both as used there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface
from redoubt.attacks._expectation import Expectation
from redoubt.attacks._geometry import TINY, like, unit
from redoubt.lazily import torch
from redoubt.records import Positive, Strict

NEEDS = "gradients"
THREAT = "l-infinity or l2 ball of radius epsilon"
COST = "steps x restarts forward and backward passes, fewer for images that are fooled early"
ENGINES = ("redoubt", "foolbox")
SWEEP = {"epsilon": "epsilons"}


class Parameters(Strict):
    """Parameters of PGD; epsilon and step size in units of the attacked space."""

    norm: Literal["linf", "l2"] = Field("linf", description="norm of the ball and of a step")
    epsilons: list[Annotated[float, Field(ge=0)]] = Field(description="radii, a sweep in rising order")
    steps: Annotated[int, Field(gt=0)] = Field(40, description="gradient steps of one start")
    step_size: Positive | None = Field(None, description="length of a step; null: relative_step_size decides")
    relative_step_size: Positive | None = Field(
        None, description="length of a step as a share of epsilon; null, and no step_size: 1 / steps, as in I-FGSM"
    )
    random_start: bool = Field(True, description="start at a uniform draw from the ball")
    restarts: Annotated[int, Field(gt=0)] = Field(1, description="starts; images that are fooled take no further one")
    target: Annotated[int, Field(ge=0)] | None = Field(None, description="target class; untargeted if null")
    loss: losses.Name = Field("cross-entropy", description="whose gradient is followed")
    stop: bool = Field(
        True,
        description="an image leaves once it is fooled, for larger epsilons too; else, and of a random model, every "
        "start takes all its steps",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Parameters:
        if self.step_size is not None and self.relative_step_size is not None:
            raise ValueError("give step_size or relative_step_size, not both")
        if self.epsilons != sorted(self.epsilons) or not self.epsilons:
            raise ValueError("give at least one epsilon, in rising order")
        return self

    def length(self, epsilon: float) -> float:
        """Return the length of a step at one epsilon."""
        if self.step_size is not None:
            return self.step_size
        return epsilon * (self.relative_step_size or 1.0 / self.steps)


def step_along(gradient: torch.Tensor, norm: str) -> torch.Tensor:
    """Return the steepest step (B, ...) of unit `norm` along a gradient; zero where the gradient is."""
    if norm == "linf":
        return gradient.sign()
    return unit(gradient)


def project(
    points: torch.Tensor, centres: torch.Tensor, radii: torch.Tensor, norm: str, bounds: tuple[float, float] | None
) -> torch.Tensor:
    """Return `points` (B, ...) moved into the balls around `centres`, then into the bounds.

    The bounds hold the centres, so clipping to them never leaves the ball.
    """
    radii = like(radii, points)
    if norm == "linf":
        points = torch.minimum(torch.maximum(points, centres - radii), centres + radii)
    else:
        moved = points - centres
        lengths = like(moved.flatten(1).norm(dim=1), points)
        points = centres + moved * (radii / lengths.clamp_min(TINY)).clamp_max(1.0)
    return points if bounds is None else points.clamp(*bounds)


def random_start(
    inputs: torch.Tensor, radii: torch.Tensor, norm: str, context: interface.Context, rows: Iterable[int], tag: tuple
) -> torch.Tensor:
    """Return points (B, ...) drawn uniformly from the balls around `inputs`, unclipped; one draw per image."""
    shape = tuple(inputs.shape[1:])
    if norm == "linf":
        draws = 2.0 * context.rand(rows, shape, *tag).to(inputs.device) - 1.0
        return inputs + like(radii, inputs) * draws
    directions = context.randn(rows, shape, *tag).to(inputs.device)
    lengths = context.rand(rows, (), *tag, "radius").to(inputs.device) ** (1.0 / inputs[0].numel())
    return inputs + like(radii * lengths, inputs) * unit(directions)


@dataclass
class Found:
    """The best points so far of one batch: fooling before not fooling, then by height."""

    points: torch.Tensor  # (B, ...)
    fooled: torch.Tensor  # (B,) bool
    heights: torch.Tensor  # (B,) or the mean margin over draws, of a random model
    iterations: torch.Tensor  # (B,) gradient steps taken in all


def ascend(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    starts: torch.Tensor,
    radii: torch.Tensor,
    lengths: torch.Tensor,
    goal: losses.Goal,
    *,
    steps: int,
    norm: str = "linf",
    bounds: tuple[float, float] | None = None,
    stop: bool = True,
) -> Found:
    """Climb from `starts` within the balls around `inputs`.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        inputs: (B, ...) clean, centres of the balls.
        labels: (B,) true classes.
        starts: (B, ...) inside the balls and the bounds.
        radii: (B,) of the balls.
        lengths: (B,) of a step.
        goal: what is climbed and when an image is fooled.
        steps: gradient steps.
        norm: linf or l2.
        bounds: range of an input element, or None.
        stop: an image stays where it is first fooled, unless the model is random.

    Returns:
        The last points, or with `stop` those at which an image was first fooled; of a random model those of the highest
        mean margin.
    """
    count, random = len(inputs), isinstance(network, Expectation)
    stop = stop and not random
    found = Found(
        starts.clone(),
        torch.zeros(count, dtype=torch.bool, device=inputs.device),
        torch.full((count,), float("-inf"), device=inputs.device),
        torch.zeros(count, dtype=torch.int64, device=inputs.device),
    )
    rows = torch.arange(count, device=inputs.device)
    points = starts
    for iteration in range(steps + 1):
        if iteration < steps:
            look, gradient = goal.ascent(network, points, labels[rows])
        else:
            with torch.no_grad():
                look = goal.look(network, points, labels[rows])
        if random:
            still = look.rank > found.heights[rows]
        else:
            still = ~found.fooled[rows] if stop else torch.ones_like(look.reached)
        found.points[rows] = torch.where(like(still, points), points, found.points[rows])
        found.heights[rows] = torch.where(still, look.rank, found.heights[rows])
        found.fooled[rows] = torch.where(still, look.reached, found.fooled[rows])
        if iteration == steps:
            break
        found.iterations[rows] += (~found.fooled[rows]).long() if stop else 1
        if stop and interface.thin_now(iteration, inputs.device):
            left = (~found.fooled[rows]).nonzero()[:, 0]
            if not len(left):
                break
            rows, points, gradient = rows[left], points[left], gradient[left]
        moved = points + like(lengths[rows], points) * step_along(gradient, norm)
        points = project(moved, inputs[rows], radii[rows], norm, bounds)
    return found


def better(new: Found, old: Found) -> torch.Tensor:
    """Tell of each image (B,) whether `new` is better than `old`: fooled where the other is not, or higher."""
    return (new.fooled & ~old.fooled) | ((new.fooled == old.fooled) & (new.heights > old.heights))


def attack(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    parameters: Parameters,
    context: interface.Context,
    first: int = 0,
    before: Found | None = None,
) -> Found:
    """Attack one batch at one epsilon, with restarts.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        inputs: (B, ...) clean.
        labels: (B,) true classes.
        epsilon: radius of the ball.
        parameters: see `Parameters`.
        context: bounds and draws.
        first: place of the batch's first image among all.
        before: what was found in smaller balls, to go on from.

    Returns:
        Points (B, ...) in the ball and the bounds. With `stop`, an image that is fooled as it is stays as it is. Of a
        random model, the points of the highest mean margin over its judges that any start has met.
    """
    goal = losses.Goal(parameters.loss, parameters.target)
    random = isinstance(network, Expectation)
    stop = parameters.stop and not random
    full = inputs.new_full((len(inputs),), epsilon)
    climb = partial(ascend, norm=parameters.norm, bounds=context.bounds, stop=stop)
    best = before or climb(network, inputs, labels, inputs, full, full, goal, steps=0)
    if not (stop or random):
        best.fooled[:], best.heights[:] = False, float("-inf")
    for restart in range(parameters.restarts):
        left = (~best.fooled).nonzero()[:, 0] if stop else torch.arange(len(inputs), device=inputs.device)
        if not len(left):
            break
        starts, radii = inputs[left], full[left]
        if parameters.random_start:
            rows = [first + row for row in left.tolist()]
            starts = random_start(starts, radii, parameters.norm, context, rows, ("pgd", epsilon, restart))
            starts = project(starts, inputs[left], radii, parameters.norm, context.bounds)
        lengths = inputs.new_full((len(left),), parameters.length(epsilon))
        new = climb(network, inputs[left], labels[left], starts, radii, lengths, goal, steps=parameters.steps)
        old = Found(best.points[left], best.fooled[left], best.heights[left], best.iterations[left])
        wins = better(new, old)
        best.points[left] = torch.where(like(wins, starts), new.points, old.points)
        best.heights[left] = torch.where(wins, new.heights, old.heights)
        best.fooled[left] = old.fooled | new.fooled
        best.iterations[left] = old.iterations + new.iterations
    return best


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield PGD examples, all images of one epsilon before the next.

    With `stop`, and of a random model, an example for a smaller epsilon is kept for the larger ones, in whose balls it
    lies too.
    """
    done: dict[int, Found] = {}
    keeps = parameters.stop or isinstance(network, Expectation)
    for epsilon in parameters.epsilons:
        for start, inputs, labels in batches:
            before = done.get(start) if keeps else None
            done[start] = attack(network, inputs, labels, epsilon, parameters, context, start, before)
            facts = {"epsilon": epsilon, "iterations": done[start].iterations.cpu().numpy().copy()}
            yield interface.Crafted(start, done[start].points.clone(), facts)
