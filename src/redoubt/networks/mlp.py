"""Multi-layer perceptron: FC-500, ReLU, FC-150, ReLU, FC-10.

Source: DeepDefense, supplementary table 3.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, initialise


class Parameters(Scaled):
    """Width and initial weights of the MLP."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    nn = torch.nn
    first, second = parameters.units(500), parameters.units(150)
    layers = OrderedDict(
        flatten=nn.Flatten(),
        fc1=nn.Linear(math.prod(shape), first),
        relu1=nn.ReLU(),
        fc2=nn.Linear(first, second),
        relu2=nn.ReLU(),
        fc3=nn.Linear(second, classes),
    )
    return initialise(nn.Sequential(layers), parameters)
