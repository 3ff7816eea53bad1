"""LeNet-5 as PeerNets uses it, with a ReLU after each convolution.

Source: PeerNets, section 4.1 and figure 2. The figure draws two convolutions, each with a max-pool, and the paper
prints no sizes; those of the widespread Caffe LeNet are taken.
"""

from __future__ import annotations

from redoubt.lazily import torch
from redoubt.networks._chain import Chain
from redoubt.networks._layers import Scaled

LAYERS = Chain("Conv-5-20 ReLU MaxPool-2 Conv-5-50 ReLU MaxPool-2 FC-500 ReLU FC-10")

# Where PeerNets puts its layers: behind these, which is in front of ReLU and max-pool.
PEER_LAYERS = ("conv1", "conv2")


class Parameters(Scaled):
    """Width and initial weights of LeNet-5."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes)."""
    return LAYERS.build(parameters, shape, classes)
