"""LeNet-5 as PeerNets uses it: Conv-5-20, ReLU, MaxPool-2, Conv-5-50, ReLU, MaxPool-2, FC-500, ReLU, FC-10.

Source: PeerNets, section 4.1 and figure 2. The figure draws two convolutions, each with a max-pool, and the paper
prints no sizes; those of the widespread Caffe LeNet are taken, with a ReLU after each convolution.
"""

from __future__ import annotations

from collections import OrderedDict

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, flat_features, initialise

# Where PeerNets puts its layers: behind these, which is in front of ReLU and max-pool.
PEER_LAYERS = ("conv1", "conv2")


class Parameters(Scaled):
    """Width and initial weights of LeNet-5."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    nn = torch.nn
    first, second, hidden = (parameters.units(units) for units in (20, 50, 500))
    layers = OrderedDict(
        conv1=nn.Conv2d(shape[0], first, 5),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(first, second, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
    )
    layers["fc1"] = nn.Linear(flat_features(nn.Sequential(layers), shape), hidden)
    layers["relu3"] = nn.ReLU()
    layers["fc2"] = nn.Linear(hidden, classes)
    return initialise(nn.Sequential(layers), parameters)
