"""Network in network: three blocks of one spatial and two 1x1 convolutions.

Source: DeepDefense, supplementary table 3. The table prints kernels only: 5x5 convolutions are padded by 2 and 3x3 by
1. Dropout, idle in eval mode, is not in the table: here it follows the first two pools.
"""

from __future__ import annotations

from redoubt.lazily import torch
from redoubt.networks._chain import Chain
from redoubt.networks._layers import Scaled

LAYERS = Chain(
    "Conv-5-192 ReLU Conv-1-160 ReLU Conv-1-96 ReLU MaxPool-2 Dropout-0.5 "
    "Conv-5-192 ReLU Conv-1-192 ReLU Conv-1-192 ReLU AvgPool-2 Dropout-0.5 "
    "Conv-3-192 ReLU Conv-1-192 ReLU Conv-1-10 AvgPool-8",
    padded=True,
)


class Parameters(Scaled):
    """Width and initial weights of NIN."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, 32, 32) to logits (N, classes)."""
    return LAYERS.build(parameters, shape, classes)
