"""The one training loop: resumable at any step, the same bytes whether interrupted or not.

All draws of a step are seeded by the model's id, its seed, the epoch and the step, so the position in the schedule is
the whole random state. The order of the images is seeded without the id: models of one sweep see the same order.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from redoubt.defenses.interface import BaseDefense, Batch, Moment
from redoubt.device import seed_everything
from redoubt.errors import RedoubtError
from redoubt.progress import progress
from redoubt.study.entries.model import Training
from redoubt.training.data import augment
from redoubt.training.optimizer import NamedOptimizer
from redoubt.training.resume import Resume
from redoubt.training.trace import Trace

CHECK_EVERY_STEPS = 25


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


def steps_of(schedule: Training, count: int) -> tuple[int, int]:
    """Return the number of steps of an epoch of `count` images, and of the whole training."""
    per_epoch = math.ceil(count / schedule.batch_size)
    return per_epoch, round(schedule.epochs * per_epoch)


@dataclass
class Trainer:
    """Train a network by a defense.

    Args:
        network: on preprocessed inputs; trained in place.
        defense: takes the steps, see `redoubt.defenses.interface.BaseDefense`.
        schedule: epochs, batches, learning rates.
        names: model's id and seed, by which draws are seeded.
        batch: positions (B,) to training inputs (B, ...) and labels (B,) on the device.
        count: number of training images.
        evaluate: measures for one row of the history, called before the first and after every epoch.
        resume: where the state is kept.
        frozen_norms: keep batch normalisation as it is, as in fine-tuning.
        trace: probes that watch.
    """

    network: torch.nn.Module
    defense: BaseDefense
    schedule: Training
    names: tuple[str, int]
    batch: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    count: int
    evaluate: Callable[[], dict[str, float]]
    resume: Resume
    frozen_norms: bool = False
    trace: Trace = field(default_factory=Trace)

    def __post_init__(self) -> None:
        if self.frozen_norms:
            freeze_batch_norm(self.network)
        self.optimizer = NamedOptimizer(self.network, self.defense, self.schedule)
        self.steps_per_epoch, self.last = steps_of(self.schedule, self.count)
        self.done = 0
        self.history: list[dict[str, float]] = []
        where = next(self.network.parameters()).device
        self._sums = torch.zeros(3, dtype=torch.float64, device=where)  # loss, correct, images since the epoch began
        self._seconds = 0.0  # of the steps since the epoch began

    def run(self) -> list[dict[str, float]]:
        """Train from the saved state, or from the start, to the end; return the history, one row an epoch.

        The end is that of the schedule, or the first epoch with the accuracy of `stop_at`.

        Raises:
            RedoubtError: the loss is not finite, or the network cannot train on a batch of one image and there is one.
        """
        self._check_batch_of_one()
        if (state := self.resume.load()) is not None:
            self._restore(*state)
            print(f"resumed after step {self.done} of {self.last}", file=sys.stderr)
        if not self.history:
            self.trace.measure(0, 0.0, 0.0, boundary=True, steps=self.beside_normal)
            self.history.append({"epoch": 0.0, **self._evaluated()})
        while self.done < self.last and not self._reached():
            self._epoch()
        return self.history

    def _reached(self) -> bool:
        stop = self.schedule.stop_at
        return stop is not None and self.history[-1]["test_accuracy"] >= stop.accuracy

    def _check_batch_of_one(self) -> None:
        """Try a batch of one image in training mode, where the schedule has one, before any work is done."""
        whole = self.schedule.batch_size == 1 and self.last > 0
        if not whole and (self.count % self.schedule.batch_size != 1 or self.last < self.steps_per_epoch):
            return
        trial = copy.deepcopy(self.network)
        trial.train()
        if self.frozen_norms:
            freeze_batch_norm(trial)
        seed_everything(*self.names, "draws")
        inputs, _ = self.batch(torch.tensor([self.count - 1]))
        try:
            with torch.no_grad():
                trial(inputs)
        except (RuntimeError, ValueError, RedoubtError) as error:
            raise RedoubtError(
                f"training.batch_size: {self.count} images in batches of {self.schedule.batch_size} leave a batch of "
                f"one image, and this network cannot train on one ({error}); change batch_size or training.images"
            ) from None

    def _epoch(self) -> None:
        epoch = self.done // self.steps_per_epoch
        order = torch.randperm(self.count, generator=seed_everything("order", self.names[1], epoch))
        end = min(self.last, (epoch + 1) * self.steps_per_epoch)
        bar = progress(
            range(self.done, end),
            f"epoch {epoch + 1}/{math.ceil(self.schedule.epochs)}",
            total=self.steps_per_epoch,
            initial=self.done - epoch * self.steps_per_epoch,
        )
        self._train_mode(self.network)
        for step in bar:
            start = (step - epoch * self.steps_per_epoch) * self.schedule.batch_size
            positions = order[start : start + self.schedule.batch_size]
            batch = self._step(positions, Moment(epoch, step, self.steps_per_epoch, self.count))
            if self.done % CHECK_EVERY_STEPS == 0 or self.done == end:
                self._check(bar)
            facts = self.done, self._epochs(), self._seconds
            self.trace.measure(*facts, boundary=self.done == end, batch=batch, steps=self.beside_normal)
            if self.done % CHECK_EVERY_STEPS == 0 and self.done < end and self.resume.due():
                self._save()
        self._finish_epoch()

    def beside_normal(self) -> dict[str, Callable[[], None]]:
        """Return a step of this training, `own`, and one of `normal` training, each on a copy of all as it is now."""
        moment = Moment(self.done // self.steps_per_epoch, self.done, self.steps_per_epoch, self.count)
        positions = torch.arange(min(self.schedule.batch_size, self.count))
        works = {}
        for name in ("own", "normal"):
            network, defense = copy.deepcopy((self.network, self.defense))
            defense = BaseDefense(defense.parameters, network) if name == "normal" else defense
            self._train_mode(network)
            works[name] = self._stepping(defense, NamedOptimizer(network, defense, self.schedule), positions, moment)
        return works

    def _stepping(
        self, defense: BaseDefense, optimizer: NamedOptimizer, positions: torch.Tensor, moment: Moment
    ) -> Callable[[], None]:
        optimizer.set_learning_rate(learning_rate(self.schedule, moment.epochs))

        def step() -> None:
            inputs, labels = self.batch(positions)
            defense.step(Batch(augment(inputs, self.schedule.augmentation), labels, positions), moment, optimizer.torch)

        return step

    def _step(self, positions: torch.Tensor, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a step and return inputs and labels of its batch, as the defense was given them.

        Nothing here waits for a GPU; `_check` does, now and then, and then the seconds are right.
        """
        started = time.perf_counter()
        seed_everything(*self.names, "draws", moment.epoch, moment.step)
        inputs, labels = self.batch(positions)
        inputs = augment(inputs, self.schedule.augmentation)
        self.optimizer.set_learning_rate(learning_rate(self.schedule, moment.epochs))
        loss, logits = self.defense.step(Batch(inputs, labels, positions), moment, self.optimizer.torch)
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            self._sums += torch.stack([loss.detach() * len(labels), correct, correct * 0 + len(labels)])
        self._seconds += time.perf_counter() - started
        self.done = moment.step + 1
        return inputs, labels

    def _check(self, bar: Any) -> None:
        started = time.perf_counter()
        loss, correct, images = self._sums.tolist()
        self._seconds += time.perf_counter() - started
        if not math.isfinite(loss):
            raise RedoubtError(
                f"the loss is not finite within {CHECK_EVERY_STEPS} steps before step {self.done} of {self.last}; "
                "lower training.learning_rate in the model's entry"
            )
        bar.set_postfix(loss=f"{loss / images:.4f}", accuracy=f"{correct / images:.4f}")

    def _finish_epoch(self) -> None:
        loss, correct, images = self._sums.tolist()
        self._sums.zero_()
        self._seconds = 0.0
        row = {
            "epoch": self._epochs(),
            "learning_rate": learning_rate(self.schedule, (self.done - 1) / self.steps_per_epoch),
            "train_loss": loss / images,
            "train_accuracy": correct / images,
        }
        self.history.append({**row, **self._evaluated()})
        self._save()

    def _epochs(self) -> float:
        return self.done / self.steps_per_epoch

    def _evaluated(self) -> dict[str, float]:
        seed_everything(*self.names, "test", self.done)  # of a random model
        return self.evaluate()

    def _train_mode(self, network: torch.nn.Module) -> None:
        network.train()
        if self.frozen_norms:
            freeze_batch_norm(network)

    def _save(self) -> None:
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}
        tensors |= {f"defense.{name}": tensor for name, tensor in self.defense.state().items()}
        tensors |= {"sums": self._sums, "trace": self.trace.tensor()}
        facts = {"done": self.done, "history": self.history, "keys": self.trace.keys, "seconds": self._seconds}
        self.resume.save(tensors, facts)

    def _restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        self.done, self.history, self._seconds = facts["done"], facts["history"], facts["seconds"]
        self._sums.copy_(tensors.pop("sums"))
        self.trace.restore(facts["keys"], tensors.pop("trace"))
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimizer": {}, "defense": {}}
        for full, tensor in tensors.items():
            kind, name = full.split(".", 1)
            parts[kind][name] = tensor
        self.network.load_state_dict(parts["network"])
        self.optimizer.load(parts["optimizer"])
        with torch.no_grad():
            for name, tensor in self.defense.state().items():
                tensor.copy_(parts["defense"][name])
