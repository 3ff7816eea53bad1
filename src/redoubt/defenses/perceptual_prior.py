"""Perceptual prior: the logits of an image and of copies that look alike are drawn together.

A batch holds every image and, for each kind of pair, one copy of it: with noise of a given size and a random sign in
every pixel, with noise of a given l2 norm, or rotated and moved. The loss is the mean cross-entropy of all of them plus
lambda times the distance between the logits of an image and its copy, a mean over pairs.

Source: Perceptual Prior (ICLR 2020 submission), section 3.2, equations 1 and 2, and section 4.3 for rotation and
translation. Its ablations: 1 is `lambda: 0`; 2 is `pairs: [l2]`; 3 is both. Its settings (lambda, xi): MNIST (10, 0.3),
CIFAR-10 (50, 8/255), Fashion-MNIST (10, 0.1); norms 4 on MNIST and 0.2 on CIFAR-10; 3 pixels and 30 degrees.
The text leaves open whether the distance is squared (`distance`); whether it is summed or averaged over a batch (a mean
here, so a sum is a lambda that is larger by the batch size); whether copies are clipped (`clip`); how noise of a given
l2 norm is drawn (a Gaussian direction here); how movements are drawn (uniformly here); and how several kinds of pairs
share lambda (one mean over all pairs here).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from redoubt.attacks import spatial
from redoubt.defenses._on_images import OnImages
from redoubt.defenses.interface import Batch, Declaration, Moment
from redoubt.lazily import torch
from redoubt.records import Positive, Strict

DECLARES = Declaration(pretrained=False, adaptive=("log-odds", "margin", "scaled-logits"))

Kind = Literal["sign", "l2", "spatial"]


class Parameters(Strict):
    """Which pairs, and how strongly their logits are drawn together; lengths are in units of images in [0, 1]."""

    pairs: Annotated[list[Kind], Field(min_length=1)] = Field(
        ["sign"], description="what makes the copies of an image, one copy each"
    )
    lambda_: Annotated[float, Field(ge=0)] = Field(10.0, alias="lambda", description="weight of the distance of logits")
    xi: Positive = Field(0.3, description="size of the noise in every pixel, of sign")
    norm: Positive = Field(4.0, description="l2 norm of the noise of an image, of l2")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(
        30.0, description="largest angle either way, in degrees, of spatial"
    )
    translation: Annotated[float, Field(ge=0)] = Field(
        3.0, description="largest shift along an axis, in pixels, of spatial"
    )
    distance: Literal["squared", "plain"] = Field(
        "squared", description="squared l2 norm of the gap between logits, or the norm"
    )
    clip: bool = Field(True, description="clip noisy copies to [0, 1]")

    @field_validator("pairs")
    @classmethod
    def _once(cls, pairs: list[Kind]) -> list[Kind]:
        if len(set(pairs)) < len(pairs):
            raise ValueError("a kind of pairs is given twice")
        return pairs


def noisy(images: torch.Tensor, kind: Kind, parameters: Parameters) -> torch.Tensor:
    """Return one copy (B, C, H, W) of each image, not clipped; draws are torch's global generator's.

    Args:
        images: (B, C, H, W) in [0, 1].
        kind: `sign` adds xi or -xi to every pixel, `l2` a Gaussian direction of the given norm to every image,
            `spatial` rotates and translates every image by uniform draws and fills by zeros.
        parameters: they hold the sizes.
    """
    if kind == "spatial":
        limits = images.new_tensor([parameters.rotation, parameters.translation, parameters.translation])
        return spatial.transform(images, limits * (2.0 * torch.rand(len(images), 3, device=images.device) - 1.0))
    drawn = torch.randn_like(images)
    if kind == "sign":
        return images + parameters.xi * drawn.sign()
    length = drawn.flatten(1).norm(dim=1).view(-1, *[1] * (images.dim() - 1))
    return images + parameters.norm * drawn / length


class Defense(OnImages):
    """The cross-entropy of images and copies, plus the distance between their logits."""

    parameters: Parameters

    def copies(self, images: torch.Tensor) -> torch.Tensor:
        """Return copies (K x B, C, H, W) of images in [0, 1], one kind after the other."""
        found = torch.cat([noisy(images, kind, self.parameters) for kind in self.parameters.pairs])
        return found.clamp(0.0, 1.0) if self.parameters.clip else found

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss, and the logits (B, classes) of the clean images."""
        copies, times = self.copies(self.images(batch.inputs)), len(self.parameters.pairs)
        logits = self.network(torch.cat([batch.inputs, self.inputs(copies)]))
        clean = logits[: len(batch)]
        gap = logits[len(batch) :] - clean.repeat(times, 1)
        distances = gap.square().sum(1) if self.parameters.distance == "squared" else gap.norm(dim=1)
        entropy = torch.nn.functional.cross_entropy(logits, batch.labels.repeat(1 + times))
        return entropy + self.parameters.lambda_ * distances.mean(), clean
