"""Methods by name: `deepfool` in a config file is `redoubt/attacks/deepfool.py`.

A method's module declares `Parameters` (a `Strict` model: every key, its unit and its default) and the callables
that its kind asks for. Looking a method up imports that module alone, so a step reads only the code it uses.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from redoubt.errors import RedoubtError
from redoubt.records import Strict, explain

KINDS = ("attacks", "defenses", "networks", "preprocessing", "probes", "metrics", "artifacts")


def names(kind: str) -> list[str]:
    """Return the names of all methods of one kind, sorted; names hold hyphens where files hold underscores."""
    package = importlib.import_module(f"redoubt.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_") and name != "interface")


def method(kind: str, name: str) -> ModuleType:
    """Return the module of a method.

    Raises:
        RedoubtError: there is no such method; the message lists those that exist.
    """
    if name not in (known := names(kind)):
        raise RedoubtError(f"'{name}' is not one of {', '.join(known)}")
    return importlib.import_module(f"redoubt.{kind}.{name.replace('-', '_')}")


def parameters(kind: str, name: str, values: dict[str, Any]) -> Strict:
    """Return the checked parameters of a method, defaults filled in.

    Raises:
        RedoubtError: unknown method, unknown key or a value out of range.
    """
    try:
        return method(kind, name).Parameters(**values)
    except ValidationError as error:
        raise RedoubtError(explain(error)) from None


def chosen(kind: str, named: dict[str, Any]) -> tuple[ModuleType, Strict]:
    """Return module and checked parameters of an entry `{name, parameters}`, whose parameters may be left out."""
    return method(kind, named["name"]), parameters(kind, named["name"], named.get("parameters", {}))
