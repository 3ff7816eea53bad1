"""Net-A: two 5x5 convolutions and two linear layers with dropout, a source of examples that are transferred.

Source: Perceptual Prior, table 6, after model A of Tramer et al. (ICLR 2018) and its public code
(ensemble-adv-training), from which strides of 1 and unpadded convolutions are taken.
Deviation: weights are drawn by He's rule where that code has Glorot's uniform one; biases are zero in both.
"""

from __future__ import annotations

from collections import OrderedDict

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, flat_features, initialise


class Parameters(Scaled):
    """Width and initial weights of Net-A."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, H, W), H and W at least 9, to logits (N, classes)."""
    nn = torch.nn
    units, hidden = parameters.units(64), parameters.units(128)
    layers = OrderedDict(
        conv1=nn.Conv2d(shape[0], units, 5),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(units, units, 5),
        relu2=nn.ReLU(),
        dropout1=nn.Dropout(0.25),
        flatten=nn.Flatten(),
    )
    layers["fc1"] = nn.Linear(flat_features(nn.Sequential(layers), shape), hidden)
    layers |= {"relu3": nn.ReLU(), "dropout2": nn.Dropout(0.5), "fc2": nn.Linear(hidden, classes)}
    return initialise(nn.Sequential(layers), parameters)
