"""Network in network: the CIFAR-10 network of DeepDefense, supplementary table 3.

Three blocks of one spatial and two 1x1 convolutions with ReLU; MaxPool-2, AvgPool-2 and AvgPool-8 after them.
The table prints kernels only: 5x5 convolutions are padded by 2 and 3x3 by 1. Dropout of 0.5 follows the first two
pools, as in the recipe that the paper trained its reference with; it is idle in eval mode.
"""

from __future__ import annotations

from collections import OrderedDict

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, initialise


class Parameters(Scaled):
    """Width and initial weights of NIN."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, 32, 32) to logits (N, classes)."""
    nn = torch.nn
    wide, middle, narrow = (parameters.units(units) for units in (192, 160, 96))
    blocks = [  # (input channels, ((kernel, output channels), ...), what follows the block)
        (shape[0], ((5, wide), (1, middle), (1, narrow)), [nn.MaxPool2d(2), nn.Dropout(0.5)]),
        (narrow, ((5, wide), (1, wide), (1, wide)), [nn.AvgPool2d(2), nn.Dropout(0.5)]),
        (wide, ((3, wide), (1, wide), (1, classes)), [nn.AvgPool2d(8), nn.Flatten()]),
    ]
    layers: OrderedDict[str, torch.nn.Module] = OrderedDict()
    number = 0
    for channels, convolutions, ending in blocks:
        for kernel, units in convolutions:
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(channels, units, kernel, padding=kernel // 2)
            layers[f"relu{number}"] = nn.ReLU()
            channels = units
        if number == 9:
            del layers["relu9"]  # the last 1x1 convolution makes the class maps, without ReLU
        layers.update((f"{type(module).__name__.lower()}{number}", module) for module in ending)
    return initialise(nn.Sequential(layers), parameters)
