"""Straight-through gradients: attack a model past layers whose own gradient says little.

Source: Athalye, Carlini and Wagner (ICML 2018), section 4.1: the backward pass differentiable approximation, with the
identity as the approximation.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from redoubt.errors import RedoubtError


@runtime_checkable
class _Switched(Protocol):
    """A layer that gradients can be asked to pass by."""

    straight_through: bool


class StraightThrough(torch.nn.Module):
    """A model with the same outputs, whose backward pass takes some layers as the identity.

    Args:
        network: a module that holds layers with a switch `straight_through`, as peer layers have.

    Raises:
        RedoubtError: it holds none.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.training = network, network.training
        self.layers = [layer for layer in network.modules() if isinstance(layer, _Switched)]
        if not self.layers:
            raise RedoubtError("gradient: straight-through: the model has no layer that gradients could pass by")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (B, classes)."""
        for layer in self.layers:
            layer.straight_through = True
        try:
            return self.network(inputs)
        finally:
            for layer in self.layers:
                layer.straight_through = False
