"""From a model's entry to its weights, history, trace and provenance: what pretraining and defending share."""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from redoubt import device, registry
from redoubt.data import store
from redoubt.defenses.interface import BaseDefense, Setting
from redoubt.errors import RedoubtError
from redoubt.files import entry_digest, file_digest, json_text, read_json, write_all
from redoubt.graph import code
from redoubt.models import given, weights
from redoubt.models.classifier import Classifier, build, memory_format, moved
from redoubt.networks._modes import eval_mode
from redoubt.progress import progress
from redoubt.study.entries.base import Method, differing
from redoubt.study.entries.model import ModelEntry
from redoubt.training.data import TrainingData
from redoubt.training.loop import Trainer, steps_of
from redoubt.training.resume import Resume
from redoubt.training.trace import Trace

EVALUATION_BATCH = 256
METHODS = {"network": "networks", "preprocessing": "preprocessing", "defense": "defenses"}


def fit(
    entry: ModelEntry | dict[str, Any],
    seed: int,
    data: Path,
    preprocessing: Path,
    folder: Path,
    start: Path | None = None,
    device_name: str = "auto",
    threads: int = 1,
    resume_root: Path = Path("results/.resume"),
) -> list[dict[str, float]]:
    """Train one model, write its four files into `folder`, and return the history.

    Args:
        entry: the model's entry, as the catalog gives it; keys that have their default may be left out.
        seed: of weights, order and all other draws.
        data: folder of a published dataset.
        preprocessing: the file of what the entry's preprocessing learned from that dataset.
        folder: where weights.safetensors, history.csv, trace.parquet and model.json go.
        start: weights of the model that the entry's `start` names, or a user's file of its `weights`.
        device_name: auto, cpu or cuda.
        threads: CPU threads.
        resume_root: where unfinished runs keep their state.

    Raises:
        RedoubtError: bad data, files that do not fit the entry, or a loss that is not finite.
    """
    entry = plain(entry)
    schedule = entry.training
    if (entry.start is None and entry.weights is None) != (start is None):
        raise RedoubtError(f"{entry.id}: its entry starts from {entry.start}, but the weights given are {start}")
    where, meta = device.choose(device_name, threads), read_json(data / "meta.json")
    shape, names = tuple(meta["shape"]), (entry.id, seed)
    device.seed_everything(*names, "weights")
    model = build(entry, shape, len(meta["classes"]), published=start is None)
    learned = weights.load_preprocessing(model.preprocessing, entry.preprocessing, preprocessing, train_digest(meta))
    if start is not None:
        _begin_from(model, entry, start, learned, preprocessing)
    form = memory_format(model.network, shape)
    model = moved(model, where, form)
    training = TrainingData(
        store.load(data, "train"), schedule.images, schedule.validation, model.preprocessing, where, form
    )
    count = len(training.labels)
    steps = steps_of(schedule, count)[1]
    setting = Setting(model.preprocessing, shape, len(meta["classes"]), schedule, count, steps, where)
    device.seed_everything(*names, "draws")
    defense = _begun(entry, model.network, setting)
    _change_inputs(entry, defense, training, setting)
    inputs, held = _measured(model, training, store.load(data, "test"), schedule.track.images, where)
    trainer = Trainer(
        network=model.network,
        defense=defense,
        schedule=schedule,
        names=names,
        batch=training.batch,
        count=count,
        evaluate=lambda: (
            accuracy(model.network, inputs) | (accuracy(model.network, held, "validation") if held else {})
        ),
        resume=_resume(entry, seed, meta, start, learned, resume_root),
        frozen_norms=start is not None,
        trace=Trace(schedule.probes, names, model.network, inputs, model.preprocessing),
    )
    history = trainer.run()
    defense.finish(training.walk)
    content = weights.encoded(model.network, folder / "weights.safetensors")
    facts = provenance(entry, seed, meta, trainer, threads)
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    facts["preprocessing"] = {"name": entry.preprocessing.name, "sha256": learned}
    write_all(
        {
            folder / "weights.safetensors": content,
            folder / "history.csv": history_csv(history),
            folder / "trace.parquet": trainer.trace.parquet(),
            folder / "model.json": json_text(facts),
        }
    )
    trainer.resume.clear()
    return history


def plain(entry: ModelEntry | dict[str, Any]) -> ModelEntry:
    """Return a model's checked entry, in which only parameters of methods that differ from their defaults are left.

    Raises:
        RedoubtError: a key is missing, unknown or has a value out of range.
    """
    entry = ModelEntry.parse(entry)
    changes: dict[str, Method] = {}
    for key, kind in METHODS.items():
        method = getattr(entry, key)
        _, parameters = registry.chosen(kind, method)
        changes[key] = method.model_copy(update={"parameters": differing(parameters)})
    return entry.model_copy(update=changes)


def train_digest(meta: dict[str, Any]) -> str:
    """Return the SHA-256 of the training images that `meta.json` of a dataset records."""
    return meta["sha256"]["train"]


def _begin_from(model: Classifier, entry: ModelEntry, start: Path, learned: str, preprocessing: Path) -> None:
    """Fill a model's network from the weights of its start, which must have seen the same preprocessing."""
    adopter = getattr(registry.method("defenses", entry.defense.name), "adopt", None)
    state = given.read(start, entry.weights) if entry.weights is not None else weights.read(start)
    if adopter is not None:
        weights.adopt(model.network, state, start, adopter)
    elif entry.weights is not None:
        given.fill(model.network, state, start)
    else:
        weights.fill(model.network, state, start)
    if entry.weights is None and (facts := start.with_name("model.json")).exists():
        weights.check_same(read_json(facts), learned, start, preprocessing)


def _begun(entry: ModelEntry, network: torch.nn.Module, setting: Setting) -> BaseDefense:
    method, options = registry.chosen("defenses", entry.defense)
    defense = method.Defense(options, network)
    defense.begin(setting)
    return defense


def _change_inputs(entry: ModelEntry, defense: BaseDefense, training: TrainingData, setting: Setting) -> None:
    """Let a defense change what is trained on: at once, or batch by batch where images do not fit in memory."""
    if training.inputs is not None:
        training.inputs = defense.training_inputs(training.inputs, training.labels, progress)
        return
    if entry.defense.changes and type(defense).training_inputs is not BaseDefense.training_inputs:
        raise RedoubtError(f"{entry.id}: {entry.defense.name} needs all training images in memory at once")
    first = _begun(entry, copy.deepcopy(defense.network), setting)  # the network as it is now
    training.change = lambda inputs, labels: first.training_inputs(inputs, labels, lambda steps, title: steps)


def _measured(
    model: Classifier, training: TrainingData, test: store.Split, count: int | None, where: torch.device
) -> tuple[Callable, Callable | None]:
    """Return what yields the first test images, see `tracked`, and the images held out, None where there are none."""
    inputs = tracked(model, test, torch.arange(min(count or len(test), len(test))), where)
    return inputs, tracked(model, training.split, training.held, where) if len(training.held) else None


def tracked(model: Classifier, split: store.Split, positions: torch.Tensor, where: torch.device) -> Callable:
    """Return a function that yields images at positions (N,) as inputs (B, ...) of the network, with labels (B,)."""

    def inputs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for part in progress(positions.split(EVALUATION_BATCH), "measured"):
            with torch.no_grad():
                images = model.preprocessing(split.images(part).to(where).float() / 255.0)
            yield images, split.labels[part].to(where)

    return inputs


@torch.no_grad()
def accuracy(network: torch.nn.Module, inputs: Callable, part: str = "test") -> dict[str, float]:
    """Return the number of images that `inputs` yields and the share that the network classifies correctly."""
    correct, count = torch.tensor(0), 0
    with eval_mode(network):
        for images, labels in inputs():
            correct = correct.to(labels.device) + (network(images).argmax(1) == labels).sum()
            count += len(labels)
    return {f"{part}_images": float(count), f"{part}_accuracy": int(correct) / count}


def history_csv(rows: list[dict[str, float]]) -> str:
    """Return the history as CSV, every number spelled so that it reads back exactly."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: repr(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _resume(entry: ModelEntry, seed: int, meta: dict[str, Any], start: Path | None, learned: str, root: Path) -> Resume:
    """Return where the state is kept: a folder named by all that the result depends on, but for the code."""
    origin = file_digest(start) if start else None
    name = entry_digest([entry, seed, meta["sha256"], origin, learned])
    modules = [module for key, kind in METHODS.items() for module in registry.code_of(kind, getattr(entry, key))]
    modules += [registry.module_name("probes", probe.probe) for probe in entry.training.probes]
    folder = root / f"{entry.id}-seed-{seed}-{name}"
    return Resume(folder, made_by=lambda: f"{torch.__version__} {code.digest(__name__, *modules)}")


def provenance(entry: ModelEntry, seed: int, meta: dict[str, Any], trainer: Trainer, threads: int) -> dict[str, Any]:
    """Return what `model.json` says: what was trained on what, with which versions, and how it ended."""
    parameters = list(trainer.network.parameters())
    return {
        "entry": entry.dump(),
        "seed": seed,
        "shape": meta["shape"],
        "classes": meta["classes"],
        "data": {"name": meta["name"], "sha256": meta["sha256"]},
        "weights": sum(weight.numel() for weight in parameters),
        "steps": trainer.done,
        "final": trainer.history[-1],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "device": str(parameters[0].device.type),
        "threads": threads,
    }
