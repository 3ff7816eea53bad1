"""ConvNet: the CIFAR-10 network of DeepDefense.

Source: DeepDefense, supplementary table 3. The table prints kernels only: 5x5 convolutions are padded by 2, so that
32x32 inputs reach the unpadded 4x4 as 4x4.
"""

from __future__ import annotations

from redoubt.lazily import torch
from redoubt.networks._chain import Chain
from redoubt.networks._layers import Scaled

LAYERS = Chain(
    "Conv-5-32 MaxPool-2 ReLU Conv-5-32 ReLU AvgPool-2 Conv-5-64 ReLU AvgPool-2 Conv-4-64 ReLU Conv-1-10", padded=True
)


class Parameters(Scaled):
    """Width and initial weights of ConvNet."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, 32, 32) to logits (N, classes)."""
    return LAYERS.build(parameters, shape, classes)
