"""Imports that wait until they are used, and the heavy tools that way: `from redoubt.lazily import np, pd, torch`.

The workflow reads the parameters of every method while it builds its graph, and a method's parameters live beside
its code. Importing torch costs seconds, so such modules hold a proxy that imports on first use; type checkers see the
tool itself.
"""

import importlib
from typing import TYPE_CHECKING, Any


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def lazy(name: str) -> Any:
    """Return a stand-in for module `name` that imports it when an attribute is first asked for."""
    return _Lazy(name)


if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
else:
    np, pd, torch = lazy("numpy"), lazy("pandas"), lazy("torch")

__all__ = ["lazy", "np", "pd", "torch"]
