"""Networks, one file each: `Parameters` and `build(parameters, shape, classes)`; and `add_peer_regularization`."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Offer `add_peer_regularization` to users; steps do not take it from here, so that they do not depend on it."""
    if name == "add_peer_regularization":
        return importlib.import_module("redoubt.networks._peers").add_peer_regularization
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
