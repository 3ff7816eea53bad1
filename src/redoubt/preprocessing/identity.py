"""No preprocessing: the network sees images in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from redoubt.lazily import torch
from redoubt.records import Strict


class Parameters(Strict):
    """It has none."""


def build(parameters: Parameters, shape: tuple[int, int, int]) -> torch.nn.Module:
    """Return a layer that passes images (N, *shape) on."""
    return torch.nn.Identity()


def fit(parameters: Parameters, layer: torch.nn.Module, batches: Callable[[], Iterable[torch.Tensor]]) -> None:
    """Learn nothing from the training images."""
