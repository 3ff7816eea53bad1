"""What a network is trained on: images as inputs of the network, their order and their augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from redoubt.data import store
from redoubt.data.subsets import held_out, stratified
from redoubt.device import sent
from redoubt.errors import RedoubtError


def augment(inputs: torch.Tensor, kinds: Sequence[str]) -> torch.Tensor:
    """Flip and crop a whole batch (B, C, H, W) at once; draws come from torch's global generator, on the CPU."""
    if "horizontal-flip" in kinds:
        flipped = torch.rand(len(inputs)) < 0.5
        inputs = torch.where(sent(flipped, inputs.device).view(-1, 1, 1, 1), inputs.flip(3), inputs)
    if "random-crop" in kinds:
        pad, (height, width) = 4, inputs.shape[2:]
        padded = torch.nn.functional.pad(inputs, [pad] * 4)
        rows = torch.randint(2 * pad + 1, (len(inputs), 1)) + torch.arange(height)
        columns = torch.randint(2 * pad + 1, (len(inputs), 1)) + torch.arange(width)
        image = torch.arange(len(inputs), device=inputs.device)[:, None, None]
        rows, columns = sent(rows, inputs.device), sent(columns, inputs.device)
        picked = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
        inputs = picked.permute(0, 3, 1, 2)
    return inputs


class TrainingData:
    """Training images and labels; a dataset that fits in memory is preprocessed once, another one batch by batch.

    Args:
        split: the dataset's training split.
        count: number of images used, a class-balanced subset; all when None.
        validation: what is held out before, see `held_out`; nothing when None.
        layer: maps images (B, C, H, W) in [0, 1] to inputs of the network.
        where: the device that inputs are moved to.
        memory_format: of the inputs.

    Raises:
        RedoubtError: nothing is left to train on.
    """

    def __init__(
        self,
        split: store.Split,
        count: int | None,
        validation: float | None,
        layer: torch.nn.Module,
        where: torch.device,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        self.split, self.layer, self.where, self.memory_format = split, layer, where, memory_format
        self.held = split.labels[:0] if validation is None else held_out(split.labels, validation)
        left = torch.ones(len(split), dtype=torch.bool)
        left[self.held] = False
        if not left.any():
            raise RedoubtError(
                f"training.validation: {validation} holds out all {len(split)} training images; hold out fewer"
            )
        rest = left.nonzero()[:, 0]
        self.positions = rest[stratified(split.labels[rest], min(count or len(rest), len(rest)))]
        self.labels = split.labels[self.positions].to(where)
        self.inputs = torch.cat(list(self.walk())) if split.in_memory else None
        self.change: Callable = lambda inputs, labels: inputs  # of a batch whose images do not fit in memory

    def walk(self) -> Iterator[torch.Tensor]:
        """Yield the inputs of all training images (B, C, H, W), as they are before any change."""
        for part in self.positions.split(1000):
            yield self._preprocessed(self.split.images(part))

    def batch(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs (B, C, H, W) and labels (B,) of some training images, given their positions (B,)."""
        places = sent(positions, self.where)
        labels = self.labels[places]
        if self.inputs is not None:
            inputs = self.inputs[places]
        else:
            images = self.split.images(self.positions[positions], crop="random")
            inputs = self.change(self._preprocessed(images), labels)
        return inputs.contiguous(memory_format=self.memory_format), labels

    @torch.no_grad()
    def _preprocessed(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.to(self.where).float() / 255.0)
