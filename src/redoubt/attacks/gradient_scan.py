"""One gradient step whose length is scanned upwards until it succeeds, then once more in finer steps.

Source: PeerNets, section 4.3 (arXiv v1: section 5.1): gradient descent and FGSM with ten epsilons scanned upwards. The
paper leaves the gradient's scale and the finer scan open. Deviation: as in Foolbox 0 and 1, which it used, a gradient
has a root mean square of one, and twenty finer lengths end at the first that succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface
from redoubt.attacks._geometry import clip, like, unit
from redoubt.lazily import torch
from redoubt.records import Positive, Strict

NEEDS = "gradients"
THREAT = "one step, minimum length up to the limit"
COST = "one backward pass, at most scan + refine + 2 forward passes"
ENGINES = ("redoubt", "foolbox")

Move = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""Rows (A,) and lengths (A,) to points (A, ...)."""


class Parameters(Strict):
    """Parameters of the scan; lengths in units of the attacked space."""

    direction: Literal["gradient", "sign"] = Field(
        "sign", description="the gradient scaled to unit root mean square, or its sign (FGSM)"
    )
    limit: Positive = Field(1.0, description="greatest length")
    scan: Annotated[int, Field(gt=0)] = Field(10, description="lengths tried in rising order, evenly up to the limit")
    refine: Annotated[int, Field(ge=0)] = Field(
        20, description="finer lengths tried between the last that failed and the first that succeeded"
    )
    target: Annotated[int, Field(ge=0)] | None = Field(None, description="target class; untargeted if null")
    loss: losses.Name = Field("cross-entropy", description="whose gradient is followed")


def direction_of(gradient: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the step (B, ...) that is scaled: signs, or the gradient at unit root mean square; zero where it is."""
    if kind == "sign":
        return gradient.sign()
    return unit(gradient) * gradient[0].numel() ** 0.5


def shortest(
    step: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    inputs: torch.Tensor,
    parameters: Parameters,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scan for the shortest length of each image.

    Args:
        step: rows (A,) and one length for each (A,) to the points (A, ...) and whether they succeed (A,).
        inputs: (N, ...) images.
        parameters: see `Parameters`.

    Returns:
        points (N, ...), the very ones that succeeded, and the inputs where none does; their lengths (N,), NaN where
        none does; lengths tried (N,).
    """
    count, device = len(inputs), inputs.device
    points = inputs.clone()
    found = torch.full((count,), float("nan"), device=device)
    tried = torch.zeros(count, dtype=torch.int64, device=device)
    low = torch.zeros(count, device=device)

    def sweep(rows: torch.Tensor, lengths: list[torch.Tensor]) -> None:
        over = torch.zeros_like(rows, dtype=torch.bool)
        for place, length in enumerate(lengths):
            if not len(rows):
                return
            tried[rows] += ~over
            tries, reached = step(rows, length[rows])
            won = reached & ~over
            points[rows] = torch.where(like(won, tries), tries, points[rows])
            found[rows] = torch.where(won, length[rows], found[rows])
            over = over | won
            low[rows] = torch.where(over, low[rows], length[rows])
            if interface.thin_now(place, device):
                left = (~over).nonzero()[:, 0]
                rows, over = rows[left], over[left]

    unit_length = parameters.limit / parameters.scan
    coarse = [torch.full_like(low, unit_length * k) for k in range(1, parameters.scan + 1)]
    sweep(torch.arange(count, device=device), coarse)
    start, end = low.clone(), found.clone()
    finer = [start + (end - start) * (k / parameters.refine) for k in range(1, parameters.refine)]
    sweep((~found.isnan()).nonzero()[:, 0], finer)
    return points, found, tried


def scan(
    network: Callable,
    batches: interface.Batches,
    parameters: Parameters,
    stepper: Callable[[torch.Tensor, torch.Tensor], Move],
) -> Iterator[interface.Crafted]:
    """Yield the shortest successful steps of any engine; see `run`.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        batches: of inputs and labels.
        parameters: see `Parameters`.
        stepper: inputs (N, ...) and labels (N,) to a function from rows (A,) and lengths (A,) to points (A, ...).
    """
    goal = losses.Goal(parameters.loss, parameters.target)
    for start, images, truth in batches:
        with torch.no_grad():
            own = (~goal.look(network, images, truth).reached).nonzero()[:, 0]
        inputs, labels = images[own], truth[own]
        move = stepper(inputs, labels) if len(own) else None

        def step(
            rows: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor = labels, move: Move | None = move
        ) -> tuple[torch.Tensor, torch.Tensor]:
            assert move is not None, "there are rows"
            points = move(rows, lengths)
            with torch.no_grad():
                return points, goal.look(network, points, labels[rows]).reached

        points = images.clone()
        epsilons, queries = torch.zeros(len(images)), torch.ones(len(images), dtype=torch.int64)
        points[own], lengths, tried = shortest(step, inputs, parameters)
        epsilons[own.cpu()], queries[own.cpu()] = lengths.cpu(), 1 + tried.cpu()
        yield interface.Crafted(start, points, {"epsilon": epsilons.numpy(), "queries": queries.numpy()})


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the shortest successful steps; images on which all fail, or that are wrong as they are, stay as they are.

    Facts: epsilon, the length, 0 for images that are wrong as they are and NaN where all fail; queries, forward passes.
    """
    goal = losses.Goal(parameters.loss, parameters.target)

    def stepper(inputs: torch.Tensor, labels: torch.Tensor) -> Move:
        slopes = goal.gradient(network, inputs, labels)[2]
        steps = direction_of(slopes, parameters.direction)
        return lambda rows, lengths: clip(inputs[rows] + like(lengths, inputs) * steps[rows], context.bounds)

    yield from scan(network, batches, parameters, stepper)
