"""The preprocessing layers that hold learnt buffers."""

import torch


class MeanImage(torch.nn.Module):
    """Map images (N, C, H, W) in [0, 1] to 255 x - mean."""

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
