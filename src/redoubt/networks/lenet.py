"""LeNet: Conv-5-20, MaxPool-2, Conv-5-50, MaxPool-2, FC-500, ReLU, FC-10; no ReLU after the convolutions.

Source: DeepDefense, supplementary table 3. Convolutions are unpadded, as in the network that the paper downloaded.
"""

from __future__ import annotations

from collections import OrderedDict

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, flat_features, initialise


class Parameters(Scaled):
    """Width and initial weights of LeNet."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    nn = torch.nn
    first, second, hidden = (parameters.units(units) for units in (20, 50, 500))
    layers = OrderedDict(
        conv1=nn.Conv2d(shape[0], first, 5),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(first, second, 5),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
    )
    layers["fc1"] = nn.Linear(flat_features(nn.Sequential(layers), shape), hidden)
    layers["relu1"] = nn.ReLU()
    layers["fc2"] = nn.Linear(hidden, classes)
    return initialise(nn.Sequential(layers), parameters)
