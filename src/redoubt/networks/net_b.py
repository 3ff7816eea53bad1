"""Net-B: three convolutions without pools between two dropouts, a source of examples that are transferred.

Source: Perceptual Prior, table 6, after model B of Tramer et al. (ICLR 2018) and its public code
(ensemble-adv-training), from which strides and padding are taken: 8x8 with stride 2 to half the size, 6x6 with stride 2
and 5x5 with stride 1, both unpadded. The padding of 3 on each side is that of the code for images of even sizes.
Deviation: weights are drawn by He's rule where that code has Glorot's uniform one; biases are zero in both.
"""

from __future__ import annotations

from collections import OrderedDict

from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, flat_features, initialise


class Parameters(Scaled):
    """Width and initial weights of Net-B."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, H, W), H and W at least 28, to logits (N, classes)."""
    nn = torch.nn
    narrow, wide = parameters.units(64), parameters.units(128)
    layers = OrderedDict(
        dropout1=nn.Dropout(0.2),
        conv1=nn.Conv2d(shape[0], narrow, 8, stride=2, padding=3),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(narrow, wide, 6, stride=2),
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(wide, wide, 5),
        relu3=nn.ReLU(),
        dropout2=nn.Dropout(0.5),
        flatten=nn.Flatten(),
    )
    layers["fc"] = nn.Linear(flat_features(nn.Sequential(layers), shape), classes)
    return initialise(nn.Sequential(layers), parameters)
