"""The preprocessing layers that hold learnt buffers, and the way from images to inputs and back."""

from __future__ import annotations

import torch

from redoubt.errors import RedoubtError


class MeanImage(torch.nn.Module):
    """Map images (N, C, H, W) in [0, 1] to 255 x - mean."""

    mean: torch.Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the inputs, shaped as `images`, on the 0-255 scale around zero."""
        return 255.0 * images - self.mean

    def to_images(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the images that become `inputs`; within [0, 1] unless the inputs were moved out of it."""
        return (inputs + self.mean) / 255.0


class Whitened(torch.nn.Module):
    """Subtract the mean image, normalise the contrast of every image, whiten the pixels."""

    mean: torch.Tensor
    contrast: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, shape: tuple[int, int, int], contrast_floor: float) -> None:
        super().__init__()
        size = shape[0] * shape[1] * shape[2]
        self.contrast_floor = contrast_floor
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("contrast", torch.ones(()))
        self.register_buffer("whitening", torch.eye(size))

    def deviations(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images about their own mean as (N, C*H*W) and their standard deviation (N, 1), on the 0-255 scale."""
        flat = (255.0 * images - self.mean).flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        return flat, flat.std(1, keepdim=True)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return contrast-normalised images as (N, C*H*W)."""
        flat, std = self.deviations(images)
        return flat * (self.contrast / std.clamp_min(self.contrast_floor))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the whitened inputs, shaped as `images`."""
        return (self.normalised(images) @ self.whitening).view_as(images)


class Standardised(torch.nn.Module):
    """Map images (N, C, H, W) in [0, 1] to (x - mean) / std, by channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the inputs, shaped as `images`."""
        return (images - self.mean) / self.std

    def to_images(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the images that become `inputs`; within [0, 1] unless the inputs were moved out of it."""
        return inputs * self.std + self.mean


class Pixels(torch.nn.Module):
    """The way between images in [0, 1] and a network's inputs, where each element is scaled and shifted by itself.

    Args:
        shape: of an image, (C, H, W). Until `learn` is called, inputs are the images.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("offset", torch.zeros(shape))

    @torch.no_grad()
    def learn(self, layer: torch.nn.Module) -> Pixels:
        """Take over what a preprocessing layer does, and return this module.

        Raises:
            RedoubtError: the layer does more than to scale and shift every element.
        """
        own = next(layer.buffers(), self.scale)
        draw = torch.rand(self.scale.shape, generator=torch.Generator().manual_seed(0)).to(own)
        black, white, mixed = layer(torch.stack([torch.zeros_like(draw), torch.ones_like(draw), draw]))
        self.scale.copy_(white - black)
        self.offset.copy_(black)
        if not torch.allclose(self.inputs(draw.to(self.scale)), mixed.to(self.scale), rtol=1e-4, atol=1e-4):
            name = type(layer).__name__
            raise RedoubtError(
                f"preprocessing: {name} mixes pixels, and this defense works on images; use identity or standardised"
            )
        return self

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (N, C, H, W) in [0, 1] as inputs of the network."""
        return images * self.scale + self.offset

    def images(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs (N, C, H, W) as images, in [0, 1] up to rounding if they were made of such."""
        return (inputs - self.offset) / self.scale
