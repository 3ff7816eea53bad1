"""MNIST-Network: two pairs of 5x5 convolutions with a max-pool behind each, and two linear layers.

Source: Perceptual Prior (ICLR 2020 submission), table 6, also used for Fashion-MNIST. The table prints kernels only;
convolutions are padded by 2 here, so that maps keep their size up to a pool. Weights are drawn by He's rule, biases are
zero: the paper does not say how it begins.
"""

from __future__ import annotations

from redoubt.lazily import torch
from redoubt.networks._chain import Chain
from redoubt.networks._layers import Scaled

LAYERS = Chain(
    "Conv-5-32 ReLU Conv-5-32 ReLU MaxPool-2 Conv-5-64 ReLU Conv-5-64 ReLU MaxPool-2 FC-512 ReLU FC-10", padded=True
)


class Parameters(Scaled):
    """Width and initial weights of MNIST-Network."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    return LAYERS.build(parameters, shape, classes)
