"""What checks of methods share: digits, a small trained model, and the state of a model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from redoubt import registry
from redoubt.data import digits
from redoubt.data.sources import SOURCES
from redoubt.models import classifier
from redoubt.records import Strict
from redoubt.study.entries.base import differing
from redoubt.study.entries.model import ModelEntry, Training
from redoubt.training.loop import Trainer, steps_of
from redoubt.training.resume import Resume
from redoubt.training.trace import Trace

FEW = 0.02
"""Share of images up to which a finding is taken for chance; one image always is."""


@dataclass(frozen=True)
class Gate:
    """One question to a method: whether it passed, what was found, and what that means where it did not."""

    name: str
    passed: bool
    found: str
    meaning: str

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.found}" + (
            "" if self.passed else f"; {self.meaning}"
        )


SHAPE, CLASSES = (1, 28, 28), 10
SCHEDULE = Training(epochs=12, batch_size=10, optimizer="adam", learning_rate=0.003)
IMAGES = 100


def images(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return digits (N, 1, 28, 28) in [0, 1] and their labels (N,)."""
    pixels, labels = digits.build(SOURCES["digits"])[split]
    return torch.from_numpy(pixels[:IMAGES]).float() / 255, torch.from_numpy(labels[:IMAGES])


def entry(defense: str, parameters: Strict, network: str) -> ModelEntry:
    """Return the entry of a small model that a defense makes."""
    width = {"width": 0.2} if "width" in registry.method("networks", network).Parameters.model_fields else {}
    declared = registry.method("defenses", defense).DECLARES
    return ModelEntry(
        id="conform",
        dataset="digits",
        network={"name": network, "parameters": width},
        preprocessing={"name": "identity"},
        defense={"name": defense, "parameters": differing(parameters), "changes": declared.changes},
        training=SCHEDULE,
        start="start" if declared.pretrained else None,
    )


def built(made: ModelEntry) -> classifier.Classifier:
    """Return the untrained model of an entry, the same each time."""
    torch.manual_seed(1)
    return classifier.build(made, SHAPE, CLASSES)


def trainer(model: classifier.Classifier, defense: Any, resume: Resume, frozen: bool) -> Trainer:
    """Return what trains a model by a defense that has begun."""
    inputs, labels = images("train")
    inputs = defense.training_inputs(inputs, labels, lambda steps, title: steps)
    return Trainer(
        network=model.network,
        defense=defense,
        schedule=SCHEDULE,
        names=("conform", 0),
        batch=lambda positions: (inputs[positions], labels[positions]),
        count=len(labels),
        evaluate=lambda: {},
        resume=resume,
        frozen_norms=frozen,
        trace=Trace([], ("conform", 0), model.network, lambda: iter(())),
    )


def steps() -> int:
    """Return the number of steps of the training."""
    return steps_of(SCHEDULE, IMAGES)[1]


def state(network: torch.nn.Module) -> str:
    """Return a digest of all weights and buffers, of modes and of which weights have gradients."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    digest.update(repr([module.training for module in network.modules()]).encode())
    digest.update(repr([weight.grad is None for weight in network.parameters()]).encode())
    return digest.hexdigest()


def documented(module: ModuleType) -> Gate:
    """Judge whether a file says where its method comes from, and what each parameter is."""
    lacking = [name for name, key in module.Parameters.model_fields.items() if not key.description]
    source = "source:" in (module.__doc__ or "").lower()
    return Gate(
        "documentation",
        source and not lacking,
        f"{'a' if source else 'no'} source in the docstring, {len(lacking)} parameters without a description",
        "begin the file with what it does and `Source: paper, section, equation`, and give each parameter "
        f"`Field(default, description=...)`{': ' + ', '.join(lacking) if lacking else ''}",
    )
