"""VGG for small images: stages of padded 3x3 convolutions with a max-pool behind each, and one linear layer.

Source: Simonyan and Zisserman (ICLR 2015), table 1, configurations A (11 layers), B (13), D (16) and E (19).
Perceptual Prior takes VGG-11 and VGG-19 as sources of transferred examples in its table 4, and says no more of them.
Deviation: the form that is widespread for CIFAR has a norm after every convolution, and one linear layer for three.
Weights are drawn by He's rule, biases are zero.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from pydantic import Field

from redoubt.errors import RedoubtError
from redoubt.lazily import torch
from redoubt.networks._layers import Scaled, initialise

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class Parameters(Scaled):
    """Depth, width and initial weights."""

    depth: Literal[11, 13, 16, 19] = Field(11, description="layers with weights of the paper's network; two less here")
    batch_norm: bool = Field(True, description="a norm after every convolution")


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, H, W), H and W at least 32, to logits (N, classes).

    Raises:
        RedoubtError: images are smaller than that.
    """
    if min(shape[1:]) < 32:
        raise RedoubtError(f"vgg: five max-pools leave nothing of {shape[1]} x {shape[2]} images; it needs 32 x 32")
    nn = torch.nn
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = shape[0]
    for number, (published, count) in enumerate(zip(CHANNELS, CONVOLUTIONS[parameters.depth], strict=True), 1):
        units = parameters.units(published)
        stage: list[nn.Module] = []
        for _ in range(count):
            stage.append(nn.Conv2d(channels, units, 3, padding=1))
            stage += [nn.BatchNorm2d(units)] if parameters.batch_norm else []
            stage.append(nn.ReLU())
            channels = units
        layers[f"stage{number}"] = nn.Sequential(*stage, nn.MaxPool2d(2))
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(channels, classes)}
    return initialise(nn.Sequential(layers), parameters)
