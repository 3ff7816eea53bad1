"""DeepFool: step to the nearest linearised decision boundary, again and again.

Source: DeepDefense, section 3.1, equations (1) and (2), after Moosavi-Dezfooli et al. (CVPR 2016), algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from redoubt.attacks import interface
from redoubt.attacks._geometry import clip, like
from redoubt.lazily import lazy, torch
from redoubt.records import Strict

if TYPE_CHECKING:
    from redoubt.attacks import _input_gradients as input_gradients
else:
    input_gradients = lazy("redoubt.attacks._input_gradients")

NEEDS = "gradients"
THREAT = "l2, minimum norm"
COST = "iterations x (2 forward and candidates - 1 backward passes) at most"
ENGINES = ("redoubt", "foolbox")
PAST = 1e-4  # added to a step's length where points are clipped; Foolbox's value


class Parameters(Strict):
    """Parameters of DeepFool; the perturbation is unbounded and measured in l2."""

    iterations: Annotated[int, Field(gt=0)] = Field(5, description="linearisations at most; u in the paper")
    overshoot: Annotated[float, Field(ge=0)] = Field(0.02, description="share by which the perturbation is stretched")
    guard: Annotated[float, Field(gt=0)] = Field(1e-8, description="added to the norm of a gradient that is divided by")
    candidates: Annotated[int, Field(gt=1)] = Field(10, description="classes considered, by logit of the clean image")


@dataclass(frozen=True)
class Step:
    """One linearisation: the images that took it, the class they left and the class they were pushed towards."""

    rows: torch.Tensor  # (A,) positions in the batch, ascending
    sources: torch.Tensor  # (A,)
    targets: torch.Tensor  # (A,)


def forward(network: Callable, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `points` (A, ...) as leaves of a graph, and their logits (A, classes) in it."""
    points = points.detach().requires_grad_()
    with torch.enable_grad(), input_gradients.InputGradients():
        return points, network(points)


def linearise(
    points: torch.Tensor, logits: torch.Tensor, sources: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return value and gradient of logit differences.

    Args:
        points: (A, ...) where to linearise, as `forward` returns them.
        logits: (A, classes) of the points, likewise.
        sources: (A,) class to leave.
        targets: (A, K) classes to reach.

    Returns:
        f (A, K): logit of each target less that of the source; w (K, A, ...): gradient of f at `points`.

    Cost: K backward passes.
    """
    with torch.enable_grad():
        f = logits.gather(1, targets) - logits.gather(1, sources[:, None])
        columns = f.sum(0).unbind()
        w = [torch.autograd.grad(column, points, retain_graph=True)[0] for column in columns]
    return f.detach(), torch.stack(w)


def perturb(
    network: Callable,
    inputs: torch.Tensor,
    parameters: Parameters,
    towards: torch.Tensor | None = None,
    bounds: tuple[float, float] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, list[Step]]:
    """Compute DeepFool perturbations of a batch; fooled images leave the batch at once.

    Args:
        network: inputs (N, ...) to logits (N, classes), in eval mode.
        inputs: (N, ...) float32, in the space where distances are measured.
        parameters: see `Parameters`.
        towards: (N,) target class of each image; None: any class but the predicted one.
        bounds: every point that is looked at is clipped to them; None: nothing is clipped.

    Returns:
        perturbation (N, ...), stretched by the overshoot, unclipped; predicted class of clean inputs (N,); steps taken.

    Randomness: none.
    Cost: at most `iterations` times one or two forward and K backward passes, K candidates (1 when `towards` is given).
    """
    points, logits = forward(network, inputs)
    predicted = logits.argmax(1)
    if towards is None:
        candidates = min(parameters.candidates, logits.shape[1])
        ranked = logits.detach().argsort(dim=1, descending=True, stable=True)
        goals = ranked[:, 1:candidates]  # (N, K); the first is the predicted class itself
    else:
        goals = towards[:, None]
    stretch = 1.0 + parameters.overshoot
    total = torch.zeros_like(inputs)
    rows, sources, steps = torch.arange(len(inputs), device=inputs.device), predicted, []
    for iteration in range(parameters.iterations):
        if iteration:
            points, logits = forward(network, clip(inputs[rows] + stretch * total[rows], bounds))
        current = logits.argmax(1)
        waiting = current == sources if towards is None else current != towards[rows]
        sources = sources[waiting] if towards is None else current[waiting]
        if not len(sources):
            break
        if len(sources) < len(rows):
            rows = rows[waiting]
            points, logits = forward(network, points[waiting])  # cheaper than backward passes of those that are done
        f, w = linearise(points, logits, sources, goals[rows])
        norms = w.flatten(2).norm(dim=2).T + parameters.guard  # (A, K)
        distances, nearest = (f.abs() / norms).min(1)
        picked = torch.arange(len(rows), device=rows.device)
        # Clipping takes back a share of each step: points would close in on the boundary and never pass it.
        lengths = (distances if bounds is None else distances + PAST) / norms[picked, nearest]
        total[rows] += like(lengths, inputs) * w[nearest, picked]
        steps.append(Step(rows, sources, goals[rows][picked, nearest]))
    return stretch * total, predicted, steps


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield DeepFool examples, away from the class that the model predicts (right or wrong)."""
    for start, inputs, _ in batches:
        adversarial = inputs + perturb(network, inputs, parameters, bounds=context.bounds)[0]
        yield interface.Crafted(start, clip(adversarial, context.bounds))
