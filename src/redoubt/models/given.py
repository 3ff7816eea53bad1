"""Weights that a user brings: safetensors, or what `torch.save` wrote of a `state_dict`."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from redoubt.errors import RedoubtError, shortened
from redoubt.models.weights import State

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which checkpoints keep a `state_dict` beside other things."""
PARALLEL = "module."
"""What `DataParallel` puts in front of every name."""


def read(path: Path, sha256: str) -> State:
    """Return the tensors of a user's file of weights by name.

    Of a checkpoint that keeps them beside other things, they are those under `state_dict`, `model_state_dict` or
    `model`; the prefix `module.` of all names goes. Nothing but tensors and plain data is read (`weights_only=True`).

    Raises:
        RedoubtError: the file is missing, has changed since `sha256` was taken, holds other things than tensors, or a
            tensor that is not finite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RedoubtError(f"{path}: not readable ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RedoubtError(f"{path}: it has changed since this run began; start the run again")
    state = _plain(_loaded(content, path), path)
    if odd := next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None):
        raise RedoubtError(f"{path}: tensor {odd} is not finite")
    return state


def _loaded(content: bytes, path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise RedoubtError(f"{path}: it holds more than tensors; save `model.state_dict()` in place of it") from None
    except Exception as error:  # whatever reading a damaged file raises
        raise RedoubtError(f"{path}: no readable weights ({type(error).__name__})") from None


def _plain(value: Any, path: Path) -> State:
    if isinstance(value, dict):
        value = next((value[key] for key in WRAPPERS if isinstance(value.get(key), dict)), value)
    if not isinstance(value, dict) or not value:
        raise RedoubtError(f"{path}: a state_dict is expected, a mapping of names to tensors")
    if odd := [name for name, tensor in value.items() if not isinstance(tensor, torch.Tensor)]:
        raise RedoubtError(f"{path}: {odd[0]!r} is no tensor; a state_dict is expected")
    strip = PARALLEL if all(name.startswith(PARALLEL) for name in value) else ""
    return {name.removeprefix(strip): tensor.detach() for name, tensor in value.items()}


def fill(network: torch.nn.Module, state: State, path: Path) -> None:
    """Fill a network from tensors by name.

    Raises:
        RedoubtError: names or shapes are not those of the network; the message lists what lacks and what differs.
    """
    asked = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    parts = {
        "they lack": [name for name in asked if name not in found],
        "the network does not have": [name for name in found if name not in asked],
        "of another shape": [
            f"{name} {list(found[name])}, not {list(asked[name])}"
            for name in asked
            if name in found and asked[name] != found[name]
        ],
    }
    if told := "; ".join(f"{what} {shortened(names, 3)}" for what, names in parts.items() if names):
        raise RedoubtError(f"{path}: these weights do not fit the network: {told}")
    network.load_state_dict(state)
