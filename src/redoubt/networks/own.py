"""A network of the user's: a class or function in a file of Python or in an importable module.

It maps images to logits, with whatever it prepares them by inside; the model's `preprocessing` comes before it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from redoubt.errors import RedoubtError
from redoubt.layout import OWN
from redoubt.lazily import torch
from redoubt.records import Strict


class Parameters(Strict):
    """Where the network is."""

    module: str = Field(pattern=r"^[^:]+:\w+$", description="importable module, and the class or function in it")
    arguments: dict[str, Any] = Field({}, description="what the class or function is called with")


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """Return the network; it maps inputs (N, *shape) to logits (N, classes).

    Raises:
        RedoubtError: the module cannot be imported, its class cannot be called with these arguments, or what it makes
            is no such network.
    """
    module, _, name = parameters.module.partition(":")
    shown = f"{module.rpartition('.')[2]}.py:{name}" if module.startswith(f"{OWN}.") else parameters.module
    try:
        network = getattr(_imported(module), name)(**parameters.arguments)
    except Exception as error:  # whatever code of others raises
        raise RedoubtError(f"{shown}: it cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(network, torch.nn.Module):
        raise RedoubtError(f"{shown}: it makes a {type(network).__name__}; a torch.nn.Module is expected")
    _check(network, shape, classes, shown)
    return network


def _imported(module: str) -> Any:
    """Import a module; a user's file finds the modules beside it by their plain names, as a script does."""
    if module.partition(".")[0] != OWN:
        return importlib.import_module(module)
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} was copied when the config was read"
    home = str(Path(spec.origin).parent)
    sys.path.insert(0, home)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(home)
        for other, loaded in list(sys.modules.items()):  # those of another study may have the same names
            if "." not in other and str(getattr(loaded, "__file__", None) or "").startswith(f"{home}/"):
                del sys.modules[other]


def _check(network: torch.nn.Module, shape: tuple[int, int, int], classes: int, shown: str) -> None:
    """Refuse a network whose outputs for two grey images are not their logits."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            logits = network(torch.full((2, *shape), 0.5))
    except Exception as error:  # whatever code of others raises
        raise RedoubtError(f"{shown}: it fails on images {(2, *shape)}: {type(error).__name__}: {error}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != (2, classes):
        raise RedoubtError(f"{shown}: it makes {found} of images {(2, *shape)}; logits (2, {classes}) are expected")
