"""The one training loop: data on the device, resumable at any step, the same bytes whether interrupted or not.

All randomness of a step is drawn from a generator that is seeded by (entry, seed, epoch, step), so the position in the
schedule is the whole random state; what else a resumed run needs is kept in a folder named after the entry's hash.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from redoubt.errors import RedoubtError
from redoubt.files import atomic_path, tensor_digest
from redoubt.models.classifier import seed_everything
from redoubt.progress import progress
from redoubt.study.entries.model import Training
from redoubt.training.updates import Updates

SAVE_EVERY_SECONDS = 30.0
CHECK_EVERY_STEPS = 25


@dataclass
class Resume:
    """Training state on disk: one safetensors file, replaced whole.

    Args:
        folder: its place, named by the hash of all that the result depends on; None keeps nothing.
        every: seconds between two saves.
        origin: of the code that trains; a state of another origin is not taken up.
    """

    folder: Path | None
    every: float = SAVE_EVERY_SECONDS
    origin: str = ""
    _saved: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Tell whether it is time to save again."""
        return self.folder is not None and time.monotonic() - self._saved >= self.every

    def save(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Write the state; the order of the facts' keys is kept, since it is that of the history's columns."""
        if self.folder is None:
            return
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"facts": json.dumps(facts), "sha256": self._digest(tensors, json.dumps(facts))}
        with atomic_path(self.folder / "state.safetensors") as path:
            path.write_bytes(safetensors.torch.save(tensors, metadata))
        self._saved = time.monotonic()

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return the saved state, or None when there is none that can be read."""
        if self.folder is None or not (path := self.folder / "state.safetensors").exists():
            return None
        try:
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata["sha256"] == self._digest(tensors, metadata["facts"]):
                return tensors, json.loads(metadata["facts"])
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError):
            pass
        return None  # a torn state costs a restart, never a wrong result

    def _digest(self, tensors: dict[str, torch.Tensor], facts: str) -> str:
        return tensor_digest({name: tensor.numpy() for name, tensor in tensors.items()}, self.origin, facts)

    def clear(self) -> None:
        """Remove the folder."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def freeze_batch_norm(network: torch.nn.Module) -> None:
    """Keep batch normalisation as the pretrained model has it: eval mode, no training of its scale and shift."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
            for weight in module.parameters():
                weight.requires_grad_(False)


def learning_rate(schedule: Training, epoch: float) -> float:
    """Return the learning rate at a point of the schedule, in epochs from its start."""
    return schedule.learning_rate * math.prod(factor for start, factor in schedule.drops.items() if epoch >= start)


def augment(inputs: torch.Tensor, kinds: list[str]) -> torch.Tensor:
    """Flip and crop a whole batch (B, C, H, W) at once; draws come from torch's global generator."""
    if "horizontal-flip" in kinds:
        flipped = torch.rand(len(inputs)) < 0.5
        inputs = torch.where(flipped.to(inputs.device).view(-1, 1, 1, 1), inputs.flip(3), inputs)
    if "random-crop" in kinds:
        pad, (height, width) = 4, inputs.shape[2:]
        padded = torch.nn.functional.pad(inputs, [pad] * 4)
        rows = torch.randint(2 * pad + 1, (len(inputs), 1)) + torch.arange(height)
        columns = torch.randint(2 * pad + 1, (len(inputs), 1)) + torch.arange(width)
        image = torch.arange(len(inputs))[:, None, None]
        picked = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
        inputs = picked.permute(0, 3, 1, 2)
    return inputs


@dataclass
class Trainer:
    """Train a network by a defense's loss.

    Args:
        network: on preprocessed inputs; trained in place.
        defense: gives the loss, see `redoubt.defenses.interface.BaseDefense`.
        schedule: epochs, batches, learning rates.
        identity: what the random draws are seeded by, besides epoch and step.
        batch: positions (B,) to training inputs (B, ...) and labels (B,) on the device.
        count: number of training images.
        evaluate: measures for one row of the history, called before the first and after every epoch.
        resume: where the state is kept.
        frozen_norms: keep batch normalisation as it is, as in fine-tuning.
    """

    network: torch.nn.Module
    defense: Any
    schedule: Training
    identity: str
    batch: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    count: int
    evaluate: Callable[[], dict[str, float]]
    resume: Resume
    frozen_norms: bool = False

    def __post_init__(self) -> None:
        if self.frozen_norms:
            freeze_batch_norm(self.network)
        self.updates = Updates(self.network, self.schedule)
        self.steps_per_epoch = math.ceil(self.count / self.schedule.batch_size)
        self.last = round(self.schedule.epochs * self.steps_per_epoch)
        self.done = 0
        self.history: list[dict[str, float]] = []
        self._sums = torch.zeros(3, dtype=torch.float64)  # loss, correct, images since the epoch began

    def run(self) -> list[dict[str, float]]:
        """Train from the saved state, or from the start, to the end; return the history, one row an epoch.

        Raises:
            RedoubtError: the loss is not finite.
        """
        if (state := self.resume.load()) is not None:
            self._restore(*state)
            print(f"resumed after step {self.done} of {self.last}", file=sys.stderr)
        if not self.history:
            self.history.append({"epoch": 0.0, **self.evaluate()})
        while self.done < self.last:
            self._epoch()
        return self.history

    def _epoch(self) -> None:
        epoch = self.done // self.steps_per_epoch
        order = torch.randperm(self.count, generator=seed_everything(self.identity, epoch))
        end = min(self.last, (epoch + 1) * self.steps_per_epoch)
        self._train_mode()
        bar = progress(
            range(self.done, end),
            f"epoch {epoch + 1}/{math.ceil(self.schedule.epochs)}",
            total=self.steps_per_epoch,
            initial=self.done - epoch * self.steps_per_epoch,
        )
        for step in bar:
            start = (step - epoch * self.steps_per_epoch) * self.schedule.batch_size
            self._step(order[start : start + self.schedule.batch_size], epoch, step)
            self.done = step + 1
            if self.done % CHECK_EVERY_STEPS == 0 or self.done == end:
                self._check(bar)
                if self.resume.due() and self.done < end:
                    self._save()
        self._finish_epoch()

    def _step(self, positions: torch.Tensor, epoch: int, step: int) -> None:
        seed_everything(self.identity, epoch, step)
        inputs, labels = self.batch(positions)
        inputs = augment(inputs, self.schedule.augmentation)
        loss, logits = self.defense.loss(inputs, labels)
        self.updates.zero_grad()
        loss.backward()
        self.updates.step(learning_rate(self.schedule, step / self.steps_per_epoch))
        self.defense.after_step()
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            self._sums += torch.stack([loss.detach() * len(labels), correct, correct * 0 + len(labels)]).cpu()

    def _check(self, bar) -> None:
        loss, correct, images = self._sums.tolist()
        if not math.isfinite(loss):
            raise RedoubtError(
                f"the loss is not finite within {CHECK_EVERY_STEPS} steps before step {self.done} of {self.last}; "
                "lower training.learning_rate in the model's entry"
            )
        bar.set_postfix(loss=f"{loss / images:.4f}", accuracy=f"{correct / images:.4f}")

    def _finish_epoch(self) -> None:
        loss, correct, images = self._sums.tolist()
        self._sums.zero_()
        row = {
            "epoch": self.done / self.steps_per_epoch,
            "learning_rate": learning_rate(self.schedule, (self.done - 1) / self.steps_per_epoch),
            "train_loss": loss / images,
            "train_accuracy": correct / images,
        }
        self.history.append({**row, **self.evaluate()})
        self._save()

    def _train_mode(self) -> None:
        self.network.train()
        if self.frozen_norms:
            freeze_batch_norm(self.network)

    def _named_states(self) -> dict[str, torch.Tensor]:
        network = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        updates = {f"optimizer.{name}": tensor for name, tensor in self.updates.tensors().items()}
        return {**network, **updates, "sums": self._sums}

    def _save(self) -> None:
        self.resume.save(self._named_states(), {"done": self.done, "history": self.history})

    def _restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        self.done, self.history = facts["done"], facts["history"]
        self._sums = tensors["sums"]
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimizer": {}}
        for full, tensor in tensors.items():
            if full != "sums":
                kind, name = full.split(".", 1)
                parts[kind][name] = tensor
        self.network.load_state_dict(parts["network"])
        self.updates.load(parts["optimizer"])
