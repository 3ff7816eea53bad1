"""DDN: a step along the gradient, then onto a sphere that shrinks where the image is fooled and grows where it is not.

Source: Rony et al. (CVPR 2019), section 4, algorithm 1; untargeted. Deviation: the gradient is that of the log-odds,
which has the direction of the cross-entropy's and does not saturate; no rounding to 256 levels; the point after the
last step is looked at too; at the end the nearest example is moved towards the clean image for as long as it stays
misclassified, by bisection (`shorten`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

from pydantic import Field

from redoubt.attacks import _losses as losses
from redoubt.attacks import _nearing as nearing
from redoubt.attacks import interface
from redoubt.attacks._counting import Budgeted
from redoubt.attacks._geometry import TINY, like, unit
from redoubt.lazily import torch
from redoubt.records import Count, Positive

NEEDS = "gradients"
THREAT = "l2, minimum norm"
COST = "2 x steps + 14 forward and backward passes at most"
ENGINES = ("redoubt", "foolbox")

LAST = 0.01  # share of the step's length after all steps


class Parameters(Budgeted):
    """Parameters of DDN; the perturbation is unbounded and measured in units of the attacked space."""

    steps: Count = Field(100, description="gradient steps")
    radius: Positive = Field(1.0, description="of the first sphere")
    gamma: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="share by which a sphere grows or shrinks")
    step_size: Positive = Field(1.0, description="length of the first step; it falls to a hundredth by a cosine")
    loss: losses.Name = Field(
        "log-odds", description="whose gradient is followed; log-odds has the direction of the cross-entropy's"
    )
    shorten: bool = Field(True, description="examples move towards the clean image at the end; 12 forward passes")


def onward(
    walk: nearing.Walk, heights: torch.Tensor, gradient: torch.Tensor, share: float, parameters: Parameters
) -> torch.Tensor:
    """Return the next points (A, ...): algorithm 1, lines 4 to 11; radii change in place."""
    length = nearing.cosine(parameters.step_size, LAST * parameters.step_size, share)
    moved = walk.points - walk.clean + length * unit(gradient)
    walk.radii = walk.radii * torch.where(walk.wrong, 1.0 - parameters.gamma, 1.0 + parameters.gamma)
    scale = walk.radii / moved.flatten(1).norm(dim=1).clamp_min(TINY)
    return walk.clean + like(scale, moved) * moved


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield DDN's examples; an image that stays right comes back as it is."""
    for batch in batches:
        yield nearing.walk(
            network,
            batch,
            partial(onward, parameters=parameters),
            loss=parameters.loss,
            norm="l2",
            radius=parameters.radius,
            steps=parameters.steps,
            bounds=context.bounds,
            limit=parameters.queries,
            shortened=parameters.shorten,
        )
