"""What the networks have in common: initial weights and scaled widths."""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field

from redoubt.lazily import torch
from redoubt.records import Positive, Strict

Network = TypeVar("Network", bound="torch.nn.Module")


class Scaled(Strict):
    """Parameters of a network that can be built narrower than published."""

    width: Positive = Field(1.0, description="share of the published channels and hidden units")
    initial_std: Positive | None = Field(None, description="standard deviation of initial weights; He's rule when null")
    input_rms: Positive = Field(1.0, description="root mean square of an input element; He's rule divides by it")

    def units(self, published: float) -> int:
        """Return `published` units scaled by the width, at least one."""
        return max(1, round(self.width * published))


def initialise(network: Network, parameters: Scaled) -> Network:
    """Draw Gaussian weights from torch's global generator, set biases to zero and return the network.

    He's rule (standard deviation sqrt(2 / fan-in)) unless `initial_std` is given. Inputs may be on a 0-255-like scale,
    so under that rule the first layer is divided by the inputs' root mean square.
    """
    scale = 1.0 / parameters.input_rms
    for module in network.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            he = (2.0 / module.weight[0].numel()) ** 0.5 * scale
            torch.nn.init.normal_(module.weight, std=parameters.initial_std or he)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
            scale = 1.0
    return network


def flat_features(layers: torch.nn.Module, shape: tuple[int, int, int]) -> int:
    """Return how many features `layers` makes of one image of `shape` (C, H, W)."""
    with torch.no_grad():
        return layers(torch.zeros(1, *shape)).numel()
