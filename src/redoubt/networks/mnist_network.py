"""MNIST-Network: two pairs of 5x5 convolutions with a max-pool behind each, and two linear layers.

Source: Perceptual Prior (ICLR 2020 submission), table 6, also used for Fashion-MNIST. The table prints kernels only;
convolutions are padded by 2 here, so that maps keep their size up to a pool. Weights are drawn by He's rule, biases are
zero: the paper does not say how it begins.
"""

from __future__ import annotations

from collections import OrderedDict

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, flat_features, initialise


class Parameters(Scaled):
    """Width and initial weights of MNIST-Network."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    nn = torch.nn
    narrow, wide, hidden = (parameters.units(units) for units in (32, 64, 512))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = shape[0]
    for number, units in enumerate((narrow, narrow, wide, wide), 1):
        layers[f"conv{number}"] = nn.Conv2d(channels, units, 5, padding=2)
        layers[f"relu{number}"] = nn.ReLU()
        if number % 2 == 0:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        channels = units
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(flat_features(nn.Sequential(layers), shape), hidden)
    layers["relu5"] = nn.ReLU()
    layers["fc2"] = nn.Linear(hidden, classes)
    return initialise(nn.Sequential(layers), parameters)
