"""The residual block of small images' networks."""

from __future__ import annotations

import torch
from torch.nn import functional


class Block(torch.nn.Module):
    """Convolution, norm, ReLU, convolution, norm; the input is added, then comes a ReLU.

    Source: He et al. (CVPR 2016), figure 2 and section 3.3, shortcut of option A: where the block strides or changes
    the number of channels, the input is strided too and its channels are padded by zeros, behind the others.

    Args:
        channels: of the input.
        units: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, channels: int, units: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.missing = stride, units - channels
        self.conv1 = torch.nn.Conv2d(channels, units, 3, stride=stride, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(units)
        self.relu1 = torch.nn.ReLU()
        self.conv2 = torch.nn.Conv2d(units, units, 3, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(units)
        self.relu2 = torch.nn.ReLU()

    def shortcut(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (N, channels, H, W) as (N, units, ceil(H / stride), ceil(W / stride))."""
        if self.stride > 1:
            features = features[:, :, :: self.stride, :: self.stride]
        if self.missing:  # a negative number drops channels
            features = functional.pad(features, (0, 0, 0, 0, 0, self.missing))
        return features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (N, units, ceil(H / stride), ceil(W / stride))."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(features)))))
        return self.relu2(residual + self.shortcut(features))
