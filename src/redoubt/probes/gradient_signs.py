"""Gradient signs, a probe of a finished model: which signs of the cross-entropy's gradient float32 gets wrong.

It perturbs nothing. The gradient of the cross-entropy at the true label y is the sum of p_j dz_j over the classes j,
less dz_y. In exact arithmetic it is (1 - p_y) times that of the log-odds, so fast gradient sign has one direction under
both losses. In float32 p_y rounds to 1 once its logit is some 16.6 (24 ln 2) above the others: the label's term p_y - 1
is lost, and what is left, the sum over the other classes, points another way. Only far beyond, where those p_j
underflow too (a margin above 103), are the signs zero.

What is compared: signs by the cross-entropy in float32, and by the log-odds in float64.

Source: our own; the attack is equation (9) of DeepDefense.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from redoubt.attacks import _losses as losses
from redoubt.attacks import fgs, interface
from redoubt.errors import RedoubtError
from redoubt.lazily import torch
from redoubt.records import Strict

NEEDS = "gradients"
THREAT = "none: it perturbs nothing"
COST = "a forward and a backward pass, and another of each in float64"
ENGINES = ("redoubt",)


class Parameters(Strict):
    """It has none."""


def shares(signs: torch.Tensor, exact: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which share of each image's elements has lost its sign, and which has the opposite one; float64 (B,).

    Args:
        signs: (B, ...) of -1, 0 and 1.
        exact: the same, as they should be; where they are zero nothing is lost.
    """
    lost = (signs == 0) & (exact != 0)
    return lost.flatten(1).double().mean(1), (signs * exact < 0).flatten(1).double().mean(1)


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the images as they are.

    Facts (B,): zero_signs and wrong_signs, shares of the image's elements, see `shares`; margin, the label's logit less
    the highest other.

    Raises:
        RedoubtError: the model is not a network of weights that can be read in float64.
    """
    if (module := interface.module_of(network)) is None:
        raise RedoubtError("gradient-signs: this model has no weights that can be read in float64")
    doubled = copy.deepcopy(module).double()
    for start, inputs, labels in batches:
        zero, wrong = shares(
            fgs.direction(network, inputs, labels, "cross-entropy"),
            fgs.direction(doubled, inputs.double(), labels, "log-odds"),
        )
        with torch.no_grad():
            margin = -losses.margin(network(inputs), labels)
        yield interface.Crafted(start, inputs, {"zero_signs": zero, "wrong_signs": wrong, "margin": margin})
