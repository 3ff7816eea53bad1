"""The model that an attack sees in one space, and the test images that are attacked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from redoubt.data import store
from redoubt.data.subsets import held_out
from redoubt.errors import RedoubtError
from redoubt.evaluation.checks import check_images
from redoubt.evaluation.twins import TWINS
from redoubt.models import classifier
from redoubt.study.entries.attack import Noise, Select

BATCH = 256
"""Images at a time."""


@dataclass(frozen=True)
class Images:
    """The attacked images."""

    positions: torch.Tensor  # (N,) in their split, ascending
    stored: torch.Tensor  # (N, C, H, W) uint8
    pixels: torch.Tensor  # (N, C, H, W) float32 in [0, 1]
    labels: torch.Tensor  # (N,)


def attacked_images(data: Path, select: Select, facts: dict[str, Any], weights: Path, where: torch.device) -> Images:
    """Return the images that are attacked, on a device.

    Args:
        data: folder of a published dataset.
        select: which of its images.
        facts: `model.json` of the attacked model.
        weights: of that model, for the message.
        where: the device.

    Raises:
        RedoubtError: the data are not of the shape that the model was trained on, no image is selected, or the model's
            training held none out and those are asked for.
    """
    split = store.load(data, select.stored)
    among = _held_out(split.labels, facts, weights) if select.split == "validation" else None
    positions = selected(split.labels, select, among)
    stored = split.images(positions)
    if (found := tuple(stored.shape[1:])) != (shape := tuple(facts["shape"])):
        raise RedoubtError(
            f"{data}: its images are {found}, those of {weights} are {shape}; give the data it was trained on"
        )
    images = Images(positions, stored, stored.to(where).float() / 255.0, split.labels[positions].to(where))
    check_images(images.pixels, images.labels)
    return images


def _held_out(labels: torch.Tensor, facts: dict[str, Any], weights: Path) -> torch.Tensor:
    """Return positions of the training images that a model's training held out, ascending."""
    if (validation := facts["entry"]["training"].get("validation")) is None:
        raise RedoubtError(f"{weights}: its training held no images out; give the model training.validation")
    return held_out(labels, validation)


def selected(labels: torch.Tensor, select: Select, among: torch.Tensor | None = None) -> torch.Tensor:
    """Return positions of the images that are attacked in their split, ascending.

    Args:
        labels: (N,) of the split.
        select: which images.
        among: positions to choose from, ascending; all when None.
    """
    positions = torch.arange(len(labels)) if among is None else among
    if select.label is not None:
        positions = positions[labels[positions] == select.label]
    if select.not_label is not None:
        positions = positions[labels[positions] != select.not_label]
    positions = positions[: select.images]
    if not len(positions):
        asked = ", ".join(f"{key}: {value}" for key, value in select if value is not None and key.endswith("label"))
        raise RedoubtError(f"select: no {select.split} image is left by {{{asked}}}")
    return positions


class Victim:
    """A model as an attack sees it in one space.

    In `pixels` the attack sees the whole model on images in [0, 1] and is clipped to that box. In `preprocessed` it
    sees the network on preprocessed inputs, which have no bounds; norms and epsilons are in that space's units. This
    is the only place that distinguishes the two.

    Args:
        model: in eval mode.
        space: see above.
        random: predictions differ from call to call.
        noise: of a random model: drawn, or that of a deterministic twin.
    """

    def __init__(self, model: classifier.Classifier, space: str, random: bool = False, noise: Noise = "drawn") -> None:
        self.preprocessed = space == "preprocessed"
        self.network = TWINS[noise](model.network if self.preprocessed else model)
        self.layer = model.preprocessing
        self.detector = getattr(model.network, "detects", None)  # of inputs of the network
        self._reports = getattr(model.network, "reports", None)
        self.bounds = None if self.preprocessed else (0.0, 1.0)
        self.random = random
        self._predicted: dict[int, torch.Tensor] = {}

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the attack perturbs, given images (N, C, H, W) in [0, 1]."""
        if not self.preprocessed:
            return images
        with torch.no_grad():
            return torch.cat([self.layer(part) for part in images.split(BATCH)])

    def predicted(self, start: int, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return the classes (B,) of the clean batch that begins at `start`, asked once; None of a random model."""
        if self.random:
            return None
        if start not in self._predicted:
            with torch.no_grad():
                self._predicted[start] = self.network(inputs).argmax(1)
        return self._predicted[start]

    def detected(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return which attacked inputs the model's own detector reports, bool (N,)."""
        assert self.detector is not None, "the model has a detector"
        return self.detector(inputs if self.preprocessed else self.layer(inputs))

    def reports(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the detector marks in attacked inputs (B, ...), over its thresholds, (B, detectors)."""
        if self._reports is None:
            raise RedoubtError("surrogate.detector: the model has no detector that an attack could evade")
        return self._reports(inputs if self.preprocessed else self.layer(inputs))

    def pictures(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return attacked inputs as images, in [0, 1] where the attack left that box alone."""
        if not self.preprocessed:
            return inputs
        if (to_images := getattr(self.layer, "to_images", None)) is None:
            raise RedoubtError(f"keep_images: {type(self.layer).__name__} cannot be turned back into images")
        return to_images(inputs)
