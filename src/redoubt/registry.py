"""Methods by name: `deepfool` in a config file is `redoubt/attacks/deepfool.py`.

A method's module declares `Parameters` (a `Strict` model: every key, its unit and its default) and the callables
that its kind asks for. Looking a method up imports that module alone, so a step reads only the code it uses.
"""

import importlib
import pkgutil
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from pydantic import ValidationError

from redoubt.errors import RedoubtError
from redoubt.layout import OWN, module_file
from redoubt.records import Strict, explain

PARTS = {
    "attacks": ("Parameters", "run", "NEEDS", "THREAT", "COST", "ENGINES"),
    "engines": (),
    "defenses": ("Parameters", "Defense", "DECLARES"),
    "probes": ("Parameters",),
    "networks": ("Parameters", "build"),
    "preprocessing": ("Parameters", "build", "fit"),
    "metrics": ("Parameters",),
    "artifacts": ("KIND", "Parameters", "needs", "draw"),
}
"""What the file of a method must define, by its kind."""
KINDS = tuple(PARTS)


def names(kind: str) -> list[str]:
    """Return the names of all methods of one kind, sorted; names hold hyphens where files hold underscores."""
    package = importlib.import_module(f"redoubt.{kind}")
    found = [module.name for module in pkgutil.iter_modules(package.__path__)]
    own = {name.replace("_", "-") for name in found if not name.startswith("_") and name != "interface"}
    return sorted(own | _installed(kind).keys())


@cache
def _installed(kind: str) -> dict[str, str]:
    """Return the modules of methods in installed packages by name: their entry points in the group `redoubt.<kind>`.

    A name that a file of ours has is ours.
    """
    found = {point.name: point.module for point in entry_points(group=f"redoubt.{kind}")}
    return {name: module for name, module in found.items() if module_file(_spelt(kind, name)) is None}


def spelt(name: str) -> str:
    """Return a name as files, functions and keys spell it."""
    return name.replace("-", "_")


def _spelt(kind: str, name: str) -> str:
    return f"redoubt.{kind}.{spelt(name)}"


def module_name(kind: str, name: str) -> str:
    """Return the module of a method, whether it exists or not: the one place that knows how files are spelt."""
    return _installed(kind).get(name) or _spelt(kind, name)


def method(kind: str, name: str) -> ModuleType:
    """Return the module of a method.

    Raises:
        RedoubtError: there is no such method (the message lists those that exist), or its file is unfinished.
    """
    full = module_name(kind, name)
    hidden = "_" in name or name == "interface"
    if hidden or (full not in sys.modules and name not in names(kind)):  # listing a folder takes its time
        raise RedoubtError(f"{name!r} is not one of {', '.join(names(kind))}")
    file = f"src/{full.replace('.', '/')}.py" if full.startswith("redoubt.") else full
    try:
        module = importlib.import_module(full)
    except RedoubtError as error:
        raise RedoubtError(f"{file}: {error}") from None
    except Exception as error:  # whatever a file that is being written raises
        raise RedoubtError(f"{file}: it cannot be imported: {type(error).__name__}: {error}") from error
    if lacking := [part for part in PARTS[kind] if not hasattr(module, part)]:
        raise RedoubtError(f"{file}: it lacks {', '.join(lacking)}")
    return module


def parameters(kind: str, name: str, values: dict[str, Any]) -> Any:
    """Return the checked parameters of a method, an instance of its `Parameters` with defaults filled in.

    Raises:
        RedoubtError: unknown method, unknown key or a value out of range.
    """
    record: type[Strict] = method(kind, name).Parameters
    try:
        return record(**values)
    except ValidationError as error:
        raise RedoubtError(explain(error)) from None


class Named(Protocol):
    """A method by its name and parameters, as entries have it."""

    @property
    def name(self) -> str:
        """Name of the method, as studies spell it."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What the study sets."""


def chosen(kind: str, named: Named) -> tuple[ModuleType, Any]:
    """Return module and checked parameters of a method, defaults filled in."""
    return method(kind, named.name), parameters(kind, named.name, named.parameters)


# -- code of users -----------------------------------------------------------------------------------------------------


def own_module(study: str, path: str) -> str:
    """Return the name of the module that a file of a study of the user's is while a run goes on."""
    return f"{OWN}.{study.replace('-', '_')}.{Path(path).stem}"


def code_of(kind: str, named: Named) -> list[str]:
    """Return the modules of a method that an entry names: its own, and that of a user's network."""
    own = named.parameters["module"] if (kind, named.name) == ("networks", "own") else ""
    return [module_name(kind, named.name), *filter(None, [own.partition(":")[0]])]


def add(source: Path) -> None:
    """Let the files of users in a copy of the sources be imported: methods in its rooms, and `<source>/redoubt_own`."""
    if (place := str(source.absolute())) not in sys.path:
        sys.path.append(place)
    for kind in KINDS:
        path = importlib.import_module(f"redoubt.{kind}").__path__
        if (room := str(source.absolute() / "redoubt" / kind)) not in path:
            path.append(room)
