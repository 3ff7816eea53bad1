"""LeNet, with no ReLU after the convolutions.

Source: DeepDefense, supplementary table 3. Convolutions are unpadded, as in the network that the paper downloaded.
"""

from __future__ import annotations

from redoubt.lazily import torch
from redoubt.networks._chain import Chain
from redoubt.networks._layers import Scaled

LAYERS = Chain("Conv-5-20 MaxPool-2 Conv-5-50 MaxPool-2 FC-500 ReLU FC-10")


class Parameters(Scaled):
    """Width and initial weights of LeNet."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    return LAYERS.build(parameters, shape, classes)
