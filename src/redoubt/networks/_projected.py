"""Residual blocks whose shortcut is a 1x1 convolution where the block changes the shape of its maps."""

from __future__ import annotations

import torch

from redoubt.networks import _residual as residual


class Projected(residual.Block):
    """The block of `_residual`, with a shortcut of option B: a strided 1x1 convolution and a norm.

    Source: He et al. (CVPR 2016), section 3.3. The shortcut is the identity where stride and channels stay.

    Args:
        channels: of the input.
        units: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, channels: int, units: int, stride: int = 1) -> None:
        super().__init__(channels, units, stride)
        self.same = stride == 1 and channels == units
        if not self.same:
            self.projection = torch.nn.Conv2d(channels, units, 1, stride=stride, bias=False)
            self.projection_bn = torch.nn.BatchNorm2d(units)

    def shortcut(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (N, channels, H, W) as (N, units, ceil(H / stride), ceil(W / stride))."""
        return features if self.same else self.projection_bn(self.projection(features))


class Preactivated(torch.nn.Module):
    """Norm, ReLU, convolution, norm, ReLU, convolution; the input is added.

    Source: Zagoruyko and Komodakis (BMVC 2016), section 2 ("B(3,3)"), after He et al. (ECCV 2016). Where stride or
    channels change, the shortcut is a strided 1x1 convolution of what the first norm and ReLU return, as in their code.

    Args:
        channels: of the input.
        units: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, channels: int, units: int, stride: int = 1) -> None:
        super().__init__()
        self.same = stride == 1 and channels == units
        self.bn1 = torch.nn.BatchNorm2d(channels)
        self.relu1 = torch.nn.ReLU()
        self.conv1 = torch.nn.Conv2d(channels, units, 3, stride=stride, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(units)
        self.relu2 = torch.nn.ReLU()
        self.conv2 = torch.nn.Conv2d(units, units, 3, padding=1, bias=False)
        if not self.same:
            self.projection = torch.nn.Conv2d(channels, units, 1, stride=stride, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (N, channels, H, W) as (N, units, ceil(H / stride), ceil(W / stride))."""
        active = self.relu1(self.bn1(features))
        residual = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return residual + (features if self.same else self.projection(active))
