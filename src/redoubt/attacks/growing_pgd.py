"""PGD in a ball that grows until it holds an adversarial example, then shrinks by bisection: the smallest epsilon.

Source: PeerNets, section 4.3, which reports the perturbations of PGD at the size that just suffices; it leaves the
search open. Deviation: the schedule is that of Foolbox 1's PGD (epsilon 0.3 grown by 1.5, 40 steps of 0.01, bisection).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface, pgd
from redoubt.attacks._geometry import like
from redoubt.lazily import torch
from redoubt.records import Positive, Strict

NEEDS = "gradients"
THREAT = "l-infinity or l2, minimum norm"
COST = "steps x (growths + bisections) forward and backward passes at most"
ENGINES = ("redoubt",)


class Parameters(Strict):
    """Parameters of the search; epsilon in units of the attacked space."""

    norm: Literal["linf", "l2"] = Field("linf", description="norm of the ball and of a step")
    epsilon: Positive = Field(0.3, description="radius of the first ball")
    relative_step_size: Positive = Field(1 / 30, description="length of a step as a share of the ball's radius")
    steps: Annotated[int, Field(gt=0)] = Field(40, description="gradient steps in one ball")
    growth: Annotated[float, Field(gt=1)] = Field(1.5, description="factor by which a ball that holds no example grows")
    growths: Annotated[int, Field(ge=0)] = Field(20, description="times that it grows at most")
    bisections: Annotated[int, Field(ge=0)] = Field(20, description="halvings between failure and success")
    target: Annotated[int, Field(ge=0)] | None = Field(None, description="target class; untargeted if null")
    loss: losses.Name = Field("cross-entropy", description="whose gradient is followed")


def search(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find the smallest ball around each image in which PGD, started at the image, succeeds.

    Returns:
        points (B, ...), the image itself where every ball failed; epsilons (B,) of the balls, 0 for images that are
        wrong as they are, NaN where every ball failed; gradient steps taken (B,).
    """
    goal = losses.Goal(parameters.loss, parameters.target)
    with torch.no_grad():
        wrong = goal.look(network, inputs, labels).reached
    points = inputs.clone()
    low, high = torch.zeros_like(inputs.flatten(1)[:, 0]), inputs.new_full((len(inputs),), float("nan"))
    high = torch.where(wrong, 0.0, high)
    trial = torch.full_like(low, parameters.epsilon)
    taken = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)

    def attempt(rows: torch.Tensor) -> None:
        found = pgd.ascend(
            network,
            inputs[rows],
            labels[rows],
            inputs[rows],
            trial[rows],
            parameters.relative_step_size * trial[rows],
            goal,
            steps=parameters.steps,
            norm=parameters.norm,
            bounds=bounds,
        )
        taken[rows] += found.iterations
        won = found.fooled
        points[rows] = torch.where(like(won, inputs), found.points, points[rows])
        high[rows] = torch.where(won, trial[rows], high[rows])
        low[rows] = torch.where(won, low[rows], trial[rows])

    for _ in range(parameters.growths + 1):
        left = high.isnan().nonzero()[:, 0]
        if not len(left):
            break
        attempt(left)
        trial = torch.where(high.isnan(), parameters.growth * trial, trial)
    left = (high > 0).nonzero()[:, 0]
    for _ in range(parameters.bisections if len(left) else 0):
        trial[left] = (low[left] + high[left]) / 2.0
        attempt(left)
    return points, high, taken


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the examples of the smallest balls found."""
    for start, inputs, labels in batches:
        points, epsilons, taken = search(network, inputs, labels, parameters, context.bounds)
        facts = {"epsilon": epsilons.cpu().numpy(), "iterations": taken.cpu().numpy()}
        yield interface.Crafted(start, points, facts)
