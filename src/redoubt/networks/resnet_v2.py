"""ResNet-V2(18) as Learn2Perturb names it: ResNet-18 for small images, with 1x1 convolutions in its shortcuts.

A 3x3 convolution with 64 channels, four stages of two blocks with 64, 128, 256 and 512 channels, global average
pooling, one linear layer. The first block of stages 2, 3 and 4 halves the image. ReLUs come after the sum: despite its
name it is no pre-activated network.

Source: Learn2Perturb (Jeddi et al., CVPR 2020), supplement, section 1.4, and its public code, which has the ResNet-18
of He et al. (CVPR 2016), table 1, behind a stem for small images.
Deviation: weights are drawn by He's rule where the code keeps the defaults of PyTorch.
"""

from __future__ import annotations

from collections import OrderedDict

from redoubt.lazily import lazy, torch
from redoubt.networks._layers import Scaled, initialise

projected = lazy("redoubt.networks._projected")


class Parameters(Scaled):
    """Width and initial weights of ResNet-V2(18)."""


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, H, W) of any size to logits (N, classes)."""
    nn = torch.nn
    channels = parameters.units(64)
    stem = OrderedDict(
        conv=nn.Conv2d(shape[0], channels, 3, padding=1, bias=False), bn=nn.BatchNorm2d(channels), relu=nn.ReLU()
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(stem))
    for number, published in enumerate((64, 128, 256, 512), 1):
        units = parameters.units(published)
        first = projected.Projected(channels, units, stride=1 if number == 1 else 2)
        layers[f"stage{number}"] = nn.Sequential(first, projected.Projected(units, units))
        channels = units
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(channels, classes)}
    return initialise(nn.Sequential(layers), parameters)
