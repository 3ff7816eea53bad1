"""What defenses that work on images in [0, 1] have in common: the way between images and inputs of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redoubt.defenses.interface import BaseDefense, Setting
from redoubt.lazily import lazy, torch

if TYPE_CHECKING:
    from redoubt.preprocessing import _layers as layers
else:
    layers = lazy("redoubt.preprocessing._layers")


class OnImages(BaseDefense):
    """Training on what is made of the images of a batch; until `begin` is called, inputs are the images."""

    pixels: layers.Pixels | None = None

    def begin(self, setting: Setting) -> None:
        """Learn the way between images and inputs.

        Raises:
            RedoubtError: preprocessing mixes pixels.
        """
        self.pixels = layers.Pixels(setting.shape).to(setting.device).learn(setting.preprocessing)

    def images(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs (B, C, H, W) of the network as images in [0, 1]."""
        return inputs if self.pixels is None else self.pixels.images(inputs).clamp(0.0, 1.0)

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (B, C, H, W) as inputs of the network; those outside of [0, 1] stay outside."""
        return images if self.pixels is None else self.pixels.inputs(images)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the network's logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        return self.network(self.inputs(images))
