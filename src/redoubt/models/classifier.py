"""A model: preprocessing and network behind one callable on images in [0, 1], and its file of weights."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.files import read_json, write_all
from redoubt.study.entries.model import ModelEntry


class Classifier(torch.nn.Module):
    """Images (N, C, H, W) in [0, 1] to logits (N, classes), by way of preprocessed inputs of the same shape."""

    def __init__(self, preprocessing: torch.nn.Module, network: torch.nn.Module) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes)."""
        return self.network(self.preprocessing(images))


def seed_everything(*parts: Any) -> torch.Generator:
    """Seed torch's global generator from the identity `parts`; return a CPU generator with the same seed."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    seed = int.from_bytes(digest[:8], "little") >> 1
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def build(
    entry: ModelEntry | dict[str, Any], shape: tuple[int, int, int], classes: int, *, published: bool = False
) -> Classifier:
    """Return the untrained model of a config entry, with weights drawn from torch's global generator.

    Its network is that of the entry, as the entry's defense changes it if it does.

    Args:
        entry: the model's entry, as the catalog gives it.
        shape: (C, H, W) of its images.
        classes: how many there are.
        published: begin with published weights where the entry asks for them. Who loads others needs none.
    """
    entry = ModelEntry.parse(entry, "the model's entry")
    parts = []
    for kind, arguments in (("preprocessing", (shape,)), ("networks", (shape, classes))):
        named = entry.network if kind == "networks" else entry.preprocessing
        given = named.parameters
        if "weights" in given and not published:
            given = {**given, "weights": "random"}
        parts.append(registry.method(kind, named.name).build(registry.parameters(kind, named.name, given), *arguments))
    defense = entry.defense
    if defense.changes:
        parameters = registry.parameters("defenses", defense.name, defense.parameters)
        parts[1] = registry.method("defenses", defense.name).change(parameters, parts[1], shape, classes)
    return Classifier(*parts)


def encoded(model: torch.nn.Module, path: Path | str) -> bytes:
    """Return weights and buffers as safetensors, for the file `path`.

    Raises:
        RedoubtError: a tensor is not finite.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if odd := _not_finite(state):
        raise RedoubtError(
            f"{path}: not written: tensor {odd} is not finite; lower training.learning_rate in the entry"
        )
    return safetensors.torch.save(state)


def save(model: torch.nn.Module, path: Path | str) -> str:
    """Write weights and buffers as safetensors, whole or not at all, and return the SHA-256 of the file.

    Raises:
        RedoubtError: a tensor is not finite.
    """
    content = encoded(model, path)
    write_all({path: content})
    return hashlib.sha256(content).hexdigest()


def load(model: torch.nn.Module, path: Path | str) -> None:
    """Fill a model from a file of weights.

    Raises:
        RedoubtError: the file is missing or broken, is not the one that a `model.json` beside it describes, or holds
            other tensors than the model has.
    """
    _fill(model, _read(path), path)


def adopt(model: Classifier, path: Path | str, adopter: Callable[[torch.nn.Module, dict], None]) -> None:
    """Fill a model from the weights of its start, whose network `adopter` turns into the model's own.

    Raises:
        RedoubtError: the file is missing, broken, or holds tensors that do not fit.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {"preprocessing": {}, "network": {}}
    for full, tensor in _read(path).items():
        kind, _, name = full.partition(".")
        parts.setdefault(kind, {})[name] = tensor
    _fill(model.preprocessing, parts["preprocessing"], path)
    try:
        adopter(model.network, parts["network"])
    except (RuntimeError, KeyError) as error:
        told = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise RedoubtError(f"{path}: these weights do not fit the network that starts from them ({told})") from None


def _read(path: Path | str) -> dict[str, torch.Tensor]:
    try:
        content = Path(path).read_bytes()
        _vouched_for(content, Path(path))
        state = safetensors.torch.load(content)
    except (OSError, safetensors.SafetensorError) as error:
        raise RedoubtError(f"{path}: no readable weights ({error}); run the step that makes them") from None
    if odd := _not_finite(state):
        raise RedoubtError(f"{path}: tensor {odd} is not finite; delete the file and run its step again")
    return state


def _vouched_for(content: bytes, path: Path) -> None:
    facts = path.with_name("model.json")
    if facts.exists() and hashlib.sha256(content).hexdigest() != read_json(facts)["sha256"]:
        raise RedoubtError(
            f"{path}: not the weights that model.json beside it describes (wrong sha256); "
            "delete both and run their step again"
        )


def _fill(module: torch.nn.Module, state: dict[str, torch.Tensor], path: Path | str) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        odd = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise RedoubtError(
            f"{path}: tensor {odd} is {found.get(odd, 'absent')}, the model's entry asks for "
            f"{expected.get(odd, 'none')}; delete the file and run its step again"
        )
    module.load_state_dict(state)


def _not_finite(state: dict[str, torch.Tensor]) -> str | None:
    return next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None)
