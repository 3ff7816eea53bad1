"""Wide residual networks WRN-d-k for small images, of depth d = 6n + 4 and k times the channels.

A 3x3 convolution with 16 channels, three stages of n pre-activated blocks with 16k, 32k and 64k channels, norm, ReLU,
global average pooling, one linear layer. The first block of stages 2 and 3 halves the image.

Source: Zagoruyko and Komodakis (BMVC 2016), table 1 and section 2, without dropout; Perceptual Prior, section 4:
WRN-28-10 for CIFAR-10, whose 36.5 million weights their table 4 prints.
Deviation: He's rule is taken with the fan-in, where their code takes the fan-out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

from pydantic import Field, field_validator

from redoubt.lazily import lazy, torch
from redoubt.networks._layers import Scaled, initialise
from redoubt.records import Positive

projected = lazy("redoubt.networks._projected")


class Parameters(Scaled):
    """Depth, widths and initial weights."""

    depth: Annotated[int, Field(ge=10)] = Field(28, description="convolutions and linear layers, 6n + 4")
    widening: Positive = Field(10.0, description="k, the factor for the channels of the three stages")

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if (depth - 4) % 6:
            raise ValueError("must be 6n + 4, such as 10, 16, 22, 28 or 40")
        return depth


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, H, W) of any size to logits (N, classes)."""
    nn = torch.nn
    count, channels = (parameters.depth - 4) // 6, parameters.units(16)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Conv2d(shape[0], channels, 3, padding=1, bias=False))
    for number, published in ((1, 16), (2, 32), (3, 64)):
        units = parameters.units(published * parameters.widening)
        blocks = [projected.Preactivated(channels, units, stride=1 if number == 1 else 2)]
        blocks += [projected.Preactivated(units, units) for _ in range(count - 1)]
        layers[f"stage{number}"] = nn.Sequential(*blocks)
        channels = units
    layers |= {"bn": nn.BatchNorm2d(channels), "relu": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(1)}
    layers |= {"flatten": nn.Flatten(), "fc": nn.Linear(channels, classes)}
    return initialise(nn.Sequential(layers), parameters)
