"""From a model's entry to its weights, history and provenance: what pretraining and defending share."""

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
from redoubt.attacks import deepfool
from redoubt.data import store
from redoubt.defenses.interface import BaseDefense
from redoubt.errors import RedoubtError
from redoubt.files import canonical_json, json_text, read_json, write_all
from redoubt.graph import code
from redoubt.models import classifier
from redoubt.networks._modes import eval_mode
from redoubt.progress import progress
from redoubt.study.entries.model import ModelEntry, Training
from redoubt.training.loop import Resume, Trainer

EVALUATION_BATCH = 256


def stratified(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Return positions (count,) of the first images of every class, in turns, in ascending order."""
    rank = torch.empty_like(labels)
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        rank[own] = torch.arange(len(own))
    return rank.argsort(stable=True)[:count].sort().values


class TrainingData:
    """Training images and labels; a dataset that fits in memory is preprocessed once, another one batch by batch."""

    def __init__(self, split: store.Split, positions: torch.Tensor, where: torch.device) -> None:
        self.split, self.positions, self.where = split, positions, where
        self.labels = split.labels[positions].to(where)
        self.inputs: torch.Tensor | None = None
        self.layer: torch.nn.Module | None = None
        self.change: Callable = lambda inputs, labels: inputs  # of a batch whose images do not fit in memory

    def batches(self) -> Iterator[torch.Tensor]:
        """Walk over all training images (B, C, H, W) in [0, 1], on the device."""
        for part in self.positions.split(1000):
            yield self.split.images(part).to(self.where).float() / 255.0

    def preprocess(self, layer: torch.nn.Module) -> None:
        """Turn images into inputs of the network by `layer`, now or as batches are asked for."""
        self.layer = layer
        if self.split.in_memory:
            with torch.no_grad():
                self.inputs = torch.cat([layer(images) for images in self.batches()])

    def walk(self) -> Iterator[torch.Tensor]:
        """Walk over the inputs of all training images (B, C, H, W), as they are before any change."""
        for images in self.batches():
            with torch.no_grad():
                inputs = self.layer(images)
            yield inputs

    def batch(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs (B, C, H, W) and labels (B,) of some training images, given their positions (B,)."""
        labels = self.labels[positions.to(self.where)]
        if self.inputs is not None:
            return self.inputs[positions.to(self.where)].contiguous(memory_format=torch.channels_last), labels
        images = self.split.images(self.positions[positions], crop="random").to(self.where).float() / 255.0
        with torch.no_grad():
            inputs = self.layer(images)
        return self.change(inputs, labels), labels


def evaluator(model: classifier.Classifier, split: store.Split, schedule: Training, where: torch.device) -> Callable:
    """Return a function that measures test accuracy, and rho_2 where the schedule asks for it.

    rho_2 is the mean of ||perturbation||_2 / ||input||_2 under DeepFool over all tracked images (DeepDefense, eq. 7).
    """
    track = schedule.track
    count = min(track.images or len(split), len(split))
    options = deepfool.Parameters(**track.deepfool) if track.deepfool is not None else None
    labels = split.labels[:count]

    def evaluate() -> dict[str, float]:
        with eval_mode(model):
            return measure()

    def measure() -> dict[str, float]:
        correct, ratios = 0, []
        for start in progress(range(0, count, EVALUATION_BATCH), "test"):
            stop = min(start + EVALUATION_BATCH, count)
            with torch.no_grad():
                images = split.images(slice(start, stop)).to(where).float() / 255.0
                inputs = model.preprocessing(images)
                correct += int((model.network(inputs).argmax(1).cpu() == labels[start:stop]).sum())
            if options is not None:
                perturbation = deepfool.perturb(model.network, inputs, options)[0]
                ratios.append((perturbation.flatten(1).norm(dim=1) / inputs.flatten(1).norm(dim=1)).double().cpu())
        row = {"test_images": float(count), "test_accuracy": correct / count}
        return row if options is None else {**row, "test_rho_2": float(torch.cat(ratios).mean())}

    return evaluate


def history_csv(rows: list[dict[str, float]]) -> str:
    """Return the history as CSV, every number spelt so that it reads back exactly."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: repr(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def identity(entry: dict[str, Any], seed: int, meta: dict[str, Any], start: Path | None) -> str:
    """Return the hash of all that the weights depend on: entry, seed, data and start.

    Raises:
        RedoubtError: there is no start to read.
    """
    try:
        origin = hashlib.sha256(start.read_bytes()).hexdigest() if start else None
    except OSError as error:
        raise RedoubtError(f"{start}: no readable weights ({error}); run the step that makes them") from None
    text = canonical_json([entry, seed, meta["sha256"], origin])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fit(
    entry: dict[str, Any],
    seed: int,
    data: Path,
    folder: Path,
    start: Path | None = None,
    device_name: str = "auto",
    threads: int = 1,
    resume_root: Path = Path("results/.resume"),
) -> list[dict[str, float]]:
    """Train one model, write weights, provenance and history into `folder`, and return the history.

    Args:
        entry: the model's entry, as the catalog gives it.
        seed: of weights, order and all other draws.
        data: folder of a published dataset.
        folder: where the three files go.
        start: weights that the entry's `start` names.
        device_name: auto, cpu or cuda.
        threads: CPU threads.
        resume_root: where unfinished runs keep their state.

    Raises:
        RedoubtError: bad data, weights that do not fit, or a loss that is not finite.
    """
    entry = ModelEntry.parse(entry)
    if (entry["start"] is None) != (start is None):
        raise RedoubtError(f"{entry['id']}: its entry starts from {entry['start']}, but the weights given are {start}")
    where = device.choose(device_name, threads)
    meta = read_json(data / "meta.json")
    key = identity(entry, seed, meta, start)
    model, training = prepare(entry, seed, data, meta, start, where)
    named = entry["defense"]
    options = registry.parameters("defenses", named["name"], named["parameters"])
    make = registry.method("defenses", named["name"]).Defense
    defense = make(options, model.network)
    defense.begin(model.preprocessing, tuple(meta["shape"]))
    if training.inputs is not None:
        training.inputs = defense.training_inputs(training.inputs, training.labels, progress)
    else:  # batch by batch, by a copy of the network as it is now
        if entry["defense"]["changes"] and make.training_inputs is not BaseDefense.training_inputs:
            raise RedoubtError(f"{entry['id']}: {named['name']} needs all images of {meta['name']} in memory at once")
        first = make(options, copy.deepcopy(model.network))
        training.change = lambda inputs, labels: first.training_inputs(inputs, labels, lambda steps, title: steps)
    schedule = entry.training
    trainer = Trainer(
        network=model.network,
        defense=defense,
        schedule=schedule,
        identity=key,
        batch=training.batch,
        count=len(training.labels),
        evaluate=evaluator(model, store.load(data, "test"), schedule, where),
        resume=Resume(resume_root / f"{entry['id']}-seed-{seed}-{key}", origin=_origin(entry)),
        frozen_norms=start is not None,
    )
    history = trainer.run()
    defense.finish(training.walk)
    weights = classifier.encoded(model, folder / "weights.safetensors")
    facts = provenance(entry, seed, meta, key, trainer, threads)
    facts["sha256"] = hashlib.sha256(weights).hexdigest()
    write_all(
        {
            folder / "weights.safetensors": weights,
            folder / "history.csv": history_csv(history),
            folder / "model.json": json_text(facts),
        }
    )
    trainer.resume.clear()
    return history


def _origin(entry: dict[str, Any]) -> str:
    """Return the hash of the code and the torch that train an entry: a state of others is not taken up."""
    methods = [("networks", "network"), ("preprocessing", "preprocessing"), ("defenses", "defense")]
    modules = [registry.module_name(kind, entry[key]["name"]) for kind, key in methods]
    return f"{torch.__version__} {code.digest(__name__, *modules)}"


def prepare(
    entry: dict[str, Any], seed: int, data: Path, meta: dict[str, Any], start: Path | None, where: torch.device
) -> tuple[classifier.Classifier, TrainingData]:
    """Return the model as training finds it, and the data that it is trained on."""
    classifier.seed_everything(entry["id"], seed, "weights")
    model = classifier.build(entry, tuple(meta["shape"]), len(meta["classes"]), published=start is None)
    split = store.load(data, "train")
    count = min(entry["training"]["images"] or len(split), len(split))
    training = TrainingData(split, stratified(split.labels, count), where)
    model = model.to(where, memory_format=torch.channels_last)
    if start is None:
        named = entry["preprocessing"]
        options = registry.parameters("preprocessing", named["name"], named["parameters"])
        registry.method("preprocessing", named["name"]).fit(options, model.preprocessing, training.batches)
    else:
        module = registry.method("defenses", entry["defense"]["name"])
        if (adopter := getattr(module, "adopt", None)) is None:
            classifier.load(model, start)
        else:
            classifier.adopt(model, start, adopter)
    training.preprocess(model.preprocessing)
    return model, training


def provenance(
    entry: dict[str, Any], seed: int, meta: dict[str, Any], key: str, trainer: Trainer, threads: int
) -> dict[str, Any]:
    """Return what `model.json` says: what was trained on what, with which versions, and how it ended."""
    weights = list(trainer.network.parameters())
    return {
        "entry": entry.dump(),
        "seed": seed,
        "hash": key,
        "shape": meta["shape"],
        "classes": meta["classes"],
        "data": {"name": meta["name"], "sha256": meta["sha256"]},
        "weights": sum(weight.numel() for weight in weights),
        "steps": trainer.last,
        "final": trainer.history[-1],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "device": str(weights[0].device.type),
        "threads": threads,
    }
