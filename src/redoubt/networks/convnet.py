"""ConvNet: the CIFAR-10 network of DeepDefense, supplementary table 3.

Conv-5-32, MaxPool-2, ReLU, Conv-5-32, ReLU, AvgPool-2, Conv-5-64, ReLU, AvgPool-2, Conv-4-64, ReLU, Conv-1-10.
The table prints kernels only: 5x5 convolutions are padded by 2, so that 32x32 inputs reach the unpadded 4x4 as 4x4.
"""

from __future__ import annotations

from collections import OrderedDict

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, initialise


class Parameters(Scaled):
    """Width and initial weights of ConvNet."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, 32, 32) to logits (N, classes)."""
    nn = torch.nn
    narrow, wide = parameters.units(32), parameters.units(64)
    layers = OrderedDict(
        conv1=nn.Conv2d(shape[0], narrow, 5, padding=2),
        pool1=nn.MaxPool2d(2),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(narrow, narrow, 5, padding=2),
        relu2=nn.ReLU(),
        pool2=nn.AvgPool2d(2),
        conv3=nn.Conv2d(narrow, wide, 5, padding=2),
        relu3=nn.ReLU(),
        pool3=nn.AvgPool2d(2),
        conv4=nn.Conv2d(wide, wide, 4),
        relu4=nn.ReLU(),
        conv5=nn.Conv2d(wide, classes, 1),
        flatten=nn.Flatten(),
    )
    return initialise(nn.Sequential(layers), parameters)
