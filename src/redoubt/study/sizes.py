"""How many images a split of a dataset has, and how many of them an attack takes, before any data is here."""

from __future__ import annotations

import math

from redoubt.data import sources
from redoubt.study.entries.attack import Select

IMAGENET = {"train": 1_281_167, "test": 50_000}, 1000
"""Training and validation images, and classes, of ImageNet, which are otherwise counted in the user's folder."""


def counted(dataset: str, split: str) -> tuple[int, int]:
    """Return the number of images in a split of a dataset, and of its classes."""
    source = sources.source(dataset)
    counts, classes = (source.counts, len(source.classes)) if source.counts else IMAGENET
    return counts[split], classes


def selected(select: Select, images: int, classes: int) -> int:
    """Return about how many of a split's images an attack selects; classes are taken to be even."""
    if select.label is not None:
        images = math.ceil(images / classes)
    if select.not_label is not None:
        images = math.ceil(images * (1 - 1 / classes))
    return min(select.images or images, images)
