"""Files of models: a network's weights, and what preprocessing learns from a dataset.

A network's tensors lie in its own weights.safetensors. What its preprocessing learns is fitted once for all models of a
dataset and lies in one file beside the data, which model.json names with its SHA-256.
"""

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
from redoubt.files import canonical_json, file_digest, parse_json, read_json, tensor_digest
from redoubt.models.classifier import Classifier, build, build_preprocessing, memory_format, moved
from redoubt.study.entries.base import Method
from redoubt.study.entries.model import ModelEntry

State = dict[str, torch.Tensor]

# -- weights -----------------------------------------------------------------------------------------------------------


def encoded(network: torch.nn.Module, path: Path | str) -> bytes:
    """Return weights and buffers of a network as safetensors, for the file `path`.

    Raises:
        RedoubtError: a tensor is not finite.
    """
    state = _state(network)
    if odd := _not_finite(state):
        raise RedoubtError(
            f"{path}: not written: tensor {odd} is not finite; lower training.learning_rate in the entry"
        )
    return safetensors.torch.save(state)


def load(network: torch.nn.Module, path: Path | str) -> None:
    """Fill a network from a file of weights.

    Raises:
        RedoubtError: the file is missing or damaged, is not the one that a `model.json` beside it describes, or holds
            other tensors than the network has.
    """
    fill(network, read(path), path)


def adopt(
    network: torch.nn.Module, state: State, path: Path | str, adopter: Callable[[torch.nn.Module, State], None]
) -> None:
    """Fill a network by `adopter` from the weights of its start, whose network may have other tensors.

    Raises:
        RedoubtError: the tensors do not fit; the message names the file.
    """
    try:
        adopter(network, state)
    except (RuntimeError, KeyError) as error:
        reported = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise RedoubtError(f"{path}: these weights do not fit the network that starts from them ({reported})") from None


def read(path: Path | str) -> State:
    """Return the tensors of a file of weights by name.

    Raises:
        RedoubtError: it is missing, damaged, or not the file that a `model.json` beside it describes.
    """
    try:
        content = Path(path).read_bytes()
        _check_sha256(content, Path(path))
        state = safetensors.torch.load(content)
    except (OSError, safetensors.SafetensorError) as error:
        raise RedoubtError(f"{path}: no readable weights ({error}); run the step that makes them") from None
    if odd := _not_finite(state):
        raise RedoubtError(f"{path}: tensor {odd} is not finite; delete the file and run its step again")
    return state


def load_model(weights: Path, preprocessing: Path, where: torch.device) -> tuple[Classifier, dict[str, Any]]:
    """Return a trained model in eval mode and its `model.json`.

    Args:
        weights: of its network, with `model.json` beside them.
        preprocessing: the file of what its preprocessing learned from its dataset.
        where: the device that it is moved to.

    Raises:
        RedoubtError: a file is missing or damaged, or the preprocessing is not that of the model.
    """
    facts = read_json(weights.parent / "model.json")
    shape, entry = tuple(facts["shape"]), ModelEntry.parse(facts["entry"], str(weights.parent / "model.json"))
    model = build(entry, shape, len(facts["classes"]))
    load(model.network, weights)
    digest = load_preprocessing(model.preprocessing, entry.preprocessing, preprocessing)
    check_same(facts, digest, weights, preprocessing)
    return moved(model, where, memory_format(model.network, shape)).eval(), facts


# -- preprocessing -----------------------------------------------------------------------------------------------------


def fit_preprocessing(
    named: Method, shape: tuple[int, int, int], batches: Callable, data: str
) -> tuple[torch.nn.Module, bytes]:
    """Fit a preprocessing layer; return it and the content of its file.

    Args:
        named: name and parameters.
        shape: (C, H, W) of an image.
        batches: function that yields all training images as float32 (B, C, H, W) in [0, 1].
        data: SHA-256 of the dataset, which the file records.
    """
    layer = build_preprocessing(named, shape)
    method, parameters = registry.chosen("preprocessing", named)
    with torch.no_grad():
        method.fit(parameters, layer, batches)
    return layer, preprocessing_content(layer, named, data)


def preprocessing_content(layer: torch.nn.Module, named: Method, data: str) -> bytes:
    """Return the content of the file of a fitted layer.

    Raises:
        RedoubtError: it has learned a value that is not finite.
    """
    state = _state(layer)
    if odd := _not_finite(state):
        raise RedoubtError(f"preprocessing {named.name}: tensor {odd} is not finite on these training images")
    facts = {"preprocessing": _spelled(named), "data": data, "tensors": _digest(state)}
    return safetensors.torch.save(state, {"facts": canonical_json(facts)})


def load_preprocessing(layer: torch.nn.Module, named: Method, path: Path | str, data: str | None = None) -> str:
    """Fill a preprocessing layer from its file; return the file's SHA-256.

    Args:
        layer: as `build_preprocessing` gives it.
        named: name and parameters, that the file must be of.
        path: of the file.
        data: SHA-256 of the dataset that the file must be of; any when None.

    Raises:
        RedoubtError: the file is missing or damaged, or belongs to another preprocessing or another dataset.
    """
    remedy = "; delete it and run the step `prepare` again"
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = parse_json(file.metadata()["facts"], str(path), remedy)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts["tensors"] != _digest(state):
            raise ValueError("its tensors have changed since they were written")
        digest = file_digest(Path(path))
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise RedoubtError(f"{path}: no readable preprocessing ({error}){remedy}") from None
    if facts["preprocessing"] != _spelled(named):
        raise RedoubtError(
            f"{path}: holds preprocessing {canonical_json(facts['preprocessing'])}, "
            f"the model's entry asks for {canonical_json(_spelled(named))}"
        )
    if data is not None and facts["data"] != data:
        raise RedoubtError(f"{path}: was fitted on other data than these{remedy}")
    fill(layer, state, path)
    return digest


def check_same(facts: dict[str, Any], digest: str, weights: Path, preprocessing: Path) -> None:
    """Refuse a preprocessing file that is not the one with which the network of `weights` was trained.

    Args:
        facts: `model.json` of the weights.
        digest: SHA-256 of the preprocessing file.
        weights: named in the error.
        preprocessing: named in the error.
    """
    if facts["preprocessing"]["sha256"] != digest:
        raise RedoubtError(
            f"{preprocessing}: not the preprocessing that {weights} was trained with (wrong sha256); "
            "run the steps `prepare` and `train` again"
        )


def _spelled(named: Method) -> dict[str, Any]:
    """Return name and parameters, all defaults included, as files record them."""
    _, parameters = registry.chosen("preprocessing", named)
    return {"name": named.name, "parameters": parameters.model_dump(mode="json", by_alias=True)}


def _state(module: torch.nn.Module) -> State:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def _digest(state: State) -> str:
    return tensor_digest({name: tensor.numpy() for name, tensor in state.items()})


def _check_sha256(content: bytes, path: Path) -> None:
    facts = path.with_name("model.json")
    if facts.exists() and hashlib.sha256(content).hexdigest() != read_json(facts)["sha256"]:
        raise RedoubtError(
            f"{path}: not the weights that model.json beside it describes (wrong sha256); "
            "delete both and run their step again"
        )


def fill(module: torch.nn.Module, state: State, path: Path | str) -> None:
    """Fill a module from tensors by name.

    Raises:
        RedoubtError: they are not the tensors that the module has; the message names the file.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        odd = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise RedoubtError(
            f"{path}: tensor {odd} is {found.get(odd, 'absent')}, the model's entry asks for "
            f"{expected.get(odd, 'none')}; delete the file and run its step again"
        )
    module.load_state_dict(state)


def _not_finite(state: State) -> str | None:
    return next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None)
