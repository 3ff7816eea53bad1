"""What the attacks and the step that runs them agree on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from redoubt.errors import RedoubtError


@dataclass(frozen=True)
class Crafted:
    """Adversarial inputs of one batch, in the order of its images."""

    start: int  # position of the batch's first image
    inputs: torch.Tensor  # (B, ...) adversarial inputs
    facts: dict[str, Any] = field(default_factory=dict)  # further columns: scalars or (B,) sequences


@dataclass(frozen=True)
class Context:
    """What an attack is given beside the model and the images."""

    generator: torch.Generator  # the only source of randomness
    engine: str = "redoubt"
    bounds: tuple[float, float] | None = None  # range of an input element; None where the space has none
    reads: Any = None  # rows of the attack that this one builds on, a pandas frame
    positions: torch.Tensor | None = None  # (N,) of the attacked images in their split


class Batches:
    """Images and labels in fixed order, in batches, as often as asked.

    Args:
        images: (N, ...) float32.
        labels: (N,) int64.
        size: images a batch.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, size: int) -> None:
        self.images, self.labels, self.size = images, labels, size

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.labels), self.size):
            yield start, self.images[start : start + self.size], self.labels[start : start + self.size]


def check_images(images: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse images that are not float32 (N, C, H, W) in [0, 1], or labels that are not int64 (N,).

    Raises:
        RedoubtError: naming what was expected and what was found.
    """
    if images.dtype != torch.float32 or images.dim() != 4:
        raise RedoubtError(f"images: expected float32 (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise RedoubtError(f"labels: expected int64 ({len(images)},), got {labels.dtype} {tuple(labels.shape)}")
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise RedoubtError(f"images: expected values in [0, 1], got {low.item():g} to {high.item():g}")
