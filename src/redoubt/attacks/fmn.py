"""FMN: a step along the gradient, then into a ball that ends at the linearised boundary, later just inside of it.

Source: Pintor, Roli, Brendel and Biggio (NeurIPS 2021), section 2, algorithm 1, for l2 and l-infinity; untargeted, by
the margin of the logits. Deviation: a ball grows by gamma at least, also before the first example, where bounds or
rounding would stop it short of the boundary; the point after the last step is looked at too; at the end the nearest
example is moved towards the clean image for as long as it stays misclassified, by bisection (`shorten`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import _nearing as nearing
from redoubt.attacks import interface, pgd
from redoubt.attacks._counting import Budgeted
from redoubt.attacks._geometry import DUAL, TINY, unit
from redoubt.lazily import torch
from redoubt.records import Count, Positive

NEEDS = "gradients"
THREAT = "l-infinity or l2, minimum norm"
COST = "2 x steps + 14 forward and backward passes at most"
ENGINES = ("redoubt", "foolbox")

LAST_GAMMA = 1e-3
LAST = 0.01  # share of the step's length after all steps


class Parameters(Budgeted):
    """Parameters of FMN; the perturbation is unbounded and measured in units of the attacked space."""

    norm: Literal["linf", "l2"] = Field("l2", description="of which the minimum is sought")
    steps: Count = Field(100, description="gradient steps")
    gamma: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.05, description="share by which a ball first grows or shrinks; it falls to 0.001 by a cosine"
    )
    step_size: Positive = Field(
        1.0, description="l2 length of the first step, in either norm; it falls to a hundredth by a cosine"
    )
    shorten: bool = Field(True, description="examples move towards the clean image at the end; 12 forward passes")


def onward(
    walk: nearing.Walk, heights: torch.Tensor, gradient: torch.Tensor, share: float, parameters: Parameters
) -> torch.Tensor:
    """Return the next points (A, ...): algorithm 1, lines 4 to 12; radii change in place."""
    gamma = nearing.cosine(parameters.gamma, LAST_GAMMA, share)
    length = nearing.cosine(parameters.step_size, LAST * parameters.step_size, share)
    slopes = gradient.flatten(1).norm(p=DUAL[parameters.norm], dim=1).clamp_min(TINY)
    inside = torch.minimum((1.0 - gamma) * walk.radii, walk.nearest)
    reach = torch.where(walk.nearest.isfinite(), 0.0, walk.sizes + heights.abs() / slopes)
    outside = torch.maximum(reach, (1.0 + gamma) * walk.radii)
    walk.radii = torch.where(walk.wrong, inside, outside)
    return pgd.project(walk.points + length * unit(gradient), walk.clean, walk.radii, parameters.norm, None)


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield FMN's examples; an image that stays right comes back as it is."""
    for batch in batches:
        yield nearing.walk(
            network,
            batch,
            partial(onward, parameters=parameters),
            loss="margin",
            norm=parameters.norm,
            radius=0.0,
            steps=parameters.steps,
            bounds=context.bounds,
            limit=parameters.queries,
            shortened=parameters.shorten,
        )
