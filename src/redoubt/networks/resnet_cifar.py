"""Residual networks for small images, of depth 6n + 2, such as ResNet-32 and ResNet-110.

A 3x3 convolution, three stages of n blocks with 16, 32 and 64 channels, global average pooling, one linear layer. The
first block of stages 2 and 3 halves the image and adds channels.

Source: He et al. (CVPR 2016), section 4.2, with shortcuts of option A: they have no weights, and take every other
pixel and pad the missing channels by zeros. PeerNets, section 4.1: depths 32 and 110; in its `v2` stages 2 and 3 are
twice as wide (`late_width: 2`). Learn2Perturb, supplement, section 1.4: its ResNet-V1, depths 20, 32, 44 and 56, and
depth 20 with `width` 1.5, 2 and 4.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from redoubt.lazily import lazy, torch
from redoubt.networks._layers import Scaled, initialise
from redoubt.records import Positive

if TYPE_CHECKING:
    from redoubt.networks import _residual as residual
else:
    residual = lazy("redoubt.networks._residual")

# Where PeerNets puts its layers: where the number of channels changes for the last time, and before the classifier.
PEER_LAYERS = ("stage2", "stage3")


class Parameters(Scaled):
    """Depth, widths and initial weights."""

    depth: Annotated[int, Field(ge=8)] = Field(32, description="layers with weights, 6n + 2")
    late_width: Positive = Field(1.0, description="further factor for the channels of stages 2 and 3; 2 in PeerNets v2")

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if (depth - 2) % 6:
            raise ValueError("must be 6n + 2, such as 8, 14, 20, 32 or 110")
        return depth


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Sequential:
    """Return the network; it maps inputs (N, C, H, W) of any size to logits (N, classes)."""
    nn = torch.nn
    count = (parameters.depth - 2) // 6
    channels = parameters.units(16)
    stem = OrderedDict(
        conv=nn.Conv2d(shape[0], channels, 3, padding=1, bias=False), bn=nn.BatchNorm2d(channels), relu=nn.ReLU()
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(stem))
    for number, published in ((1, 16), (2, 32), (3, 64)):
        late = number > 1
        units = parameters.units(published * parameters.late_width if late else published)
        blocks = [residual.Block(channels, units, stride=2 if late else 1)]
        blocks += [residual.Block(units, units) for _ in range(count - 1)]
        layers[f"stage{number}"] = nn.Sequential(*blocks)
        channels = units
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(channels, classes)}
    return initialise(nn.Sequential(layers), parameters)
