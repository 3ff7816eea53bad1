"""The network of TRADES for MNIST: two pairs of 3x3 convolutions, each with a max-pool, and three linear layers.

Source: Zhang et al. (ICML 2019), section 5.3, after Carlini and Wagner (2017), table 1.
Deviation: no dropout between the linear layers; weights are drawn by He's rule.
"""

from __future__ import annotations

from redoubt.lazily import torch
from redoubt.networks._chain import Chain
from redoubt.networks._layers import Scaled

LAYERS = Chain(
    "Conv-3-32 ReLU Conv-3-32 ReLU MaxPool-2 Conv-3-64 ReLU Conv-3-64 ReLU MaxPool-2 FC-200 ReLU FC-200 ReLU FC-10"
)


class Parameters(Scaled):
    """Width and initial weights."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    return LAYERS.build(parameters, shape, classes)
