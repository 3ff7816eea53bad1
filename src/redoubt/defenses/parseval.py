"""Parseval training: after every update, pull weight matrices towards tight frames.

Source: DeepDefense, section 4, "Parseval Training", after Cisse et al. (ICML 2017), equation for the retraction step:
W_S <- (1 + beta) W_S - beta W_S W_S^T W_S on a random share S of the output units. Convolution kernels are taken as
matrices of output channels by fan-in. The networks here have no aggregation layers, so their convexity constraint
does not apply.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redoubt.defenses.interface import BaseDefense, Batch, Declaration, Moment
from redoubt.lazily import torch
from redoubt.records import Strict

DECLARES = Declaration(adaptive="none: a plain network whose weights were pulled towards tight frames in training")


class Parameters(Strict):
    """Strength and sampling of the retraction."""

    beta: Annotated[float, Field(gt=0, lt=1)] = Field(1e-4, description="step of the retraction")
    share: Annotated[float, Field(gt=0, le=1)] = Field(0.3, description="share of the output units drawn at every step")


def retract(weight: torch.Tensor, units: torch.Tensor, beta: float) -> None:
    """Move the rows `units` of `weight` (out, ...) one step towards a tight frame, in place."""
    rows = weight.flatten(1)[units]
    moved = (1.0 + beta) * rows - beta * (rows @ rows.T) @ rows
    weight[units] = moved.view(len(units), *weight.shape[1:])


class Defense(BaseDefense):
    """The cross-entropy, with a retraction after every update."""

    parameters: Parameters

    def step(self, batch: Batch, moment: Moment, optimizer: torch.optim.Optimizer) -> tuple[torch.Tensor, torch.Tensor]:
        """Update the weights, then retract a fresh random share of the output units of every layer."""
        result = super().step(batch, moment, optimizer)
        with torch.no_grad():
            for module in self.network.modules():
                if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                    count = max(1, round(self.parameters.share * len(module.weight)))
                    units = torch.randperm(len(module.weight))[:count].to(module.weight.device)
                    retract(module.weight, units, self.parameters.beta)
        return result
