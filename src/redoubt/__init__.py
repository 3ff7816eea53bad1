"""Redoubt: published claims about adversarial defenses, rebuilt from raw bytes and doubted again.

`redoubt.evaluate` says how robust a model of yours is, `redoubt.craft` runs one attack: see docs/python.md. Both are
imported when they are first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

import redoubt._torchvision  # noqa: F401, lets torchvision be imported

if TYPE_CHECKING:
    from redoubt.evaluation.craft import craft as craft
    from redoubt.evaluation.evaluate import evaluate as evaluate

__version__ = "0.1.0"
_OFFERED = {"craft": "evaluation.craft", "evaluate": "evaluation.evaluate"}
"""What a user imports from here, and the module that has it. Strings: no job depends on what it does not use."""


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"redoubt.{_OFFERED[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})
