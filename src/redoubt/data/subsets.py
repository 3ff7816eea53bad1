"""Balanced subsets of a dataset: the first images of every class, and the last, which a training may hold out."""

from __future__ import annotations

import torch


def stratified(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Return sorted positions (count,) of a class-balanced subset: the first images of each class."""
    rank = torch.empty_like(labels)
    for label in labels.unique():
        places = (labels == label).nonzero()[:, 0]
        rank[places] = torch.arange(len(places))
    return rank.argsort(stable=True)[:count].sort().values


def held_out(labels: torch.Tensor, validation: float) -> torch.Tensor:
    """Return sorted positions of the last images of each class, as many of a class as its share of `labels` (N,) asks.

    Args:
        labels: of all training images.
        validation: how many are held out; their share of the N images where it is below 1.
    """
    count = round(validation * len(labels)) if validation < 1 else min(int(validation), len(labels))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        place[own] = (torch.arange(len(own), dtype=torch.float64) + 0.5) / len(own)
    return place.argsort(descending=True, stable=True)[:count].sort().values
