"""Redoubt: published claims about adversarial defenses, rebuilt from raw bytes and doubted again.

`redoubt.craft` runs one attack on a model of yours, see docs/python.md; it is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

import redoubt._torchvision  # noqa: F401, lets torchvision be imported

if TYPE_CHECKING:
    from redoubt.evaluation.craft import craft as craft

__version__ = "0.1.0"
_OFFERED = {"craft": "evaluation.craft"}
"""What a user imports from here, and the module that has it. Strings: no job depends on what it does not use."""


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"redoubt.{_OFFERED[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})
