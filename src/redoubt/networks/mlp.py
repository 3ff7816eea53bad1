"""Multi-layer perceptron.

Source: DeepDefense, supplementary table 3.
"""

from __future__ import annotations

from redoubt.lazily import torch
from redoubt.networks._chain import Chain
from redoubt.networks._layers import Scaled

LAYERS = Chain("FC-500 ReLU FC-150 ReLU FC-10")


class Parameters(Scaled):
    """Width and initial weights of the MLP."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    return LAYERS.build(parameters, shape, classes)
