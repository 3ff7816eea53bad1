"""Reading config files: YAML to typed records, with errors that name file and key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from redoubt.config import Method
from redoubt.errors import RedoubtError
from redoubt.schema import explain


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        RedoubtError: it is missing or not YAML; the message names file and line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # a SafeLoader
    except FileNotFoundError:
        raise RedoubtError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RedoubtError(f"{path}: not YAML: {error}") from None


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where YAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := [key for key in keys if isinstance(key, str) and keys.count(key) > 1]:
            raise yaml.MarkedYAMLError(problem=f"key {twice[0]!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def typed(kind: type[BaseModel], value: Any, file: str) -> Any:
    """Return `value` checked as `kind`; an error names file, key and what was expected."""
    if not isinstance(value, Mapping):
        raise RedoubtError(f"{file}: expected a mapping of keys, got {type(value).__name__}")
    try:
        return kind(**value)
    except ValidationError as error:
        raise RedoubtError(f"{file}: {explain(error)}") from None


def merged(base: Mapping, change: Mapping) -> dict:
    """Return `base` with the keys of `change`; mappings within are merged in the same way."""
    result = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def named(method: Method) -> dict[str, Any]:
    """Return `{name, parameters}` of a method given by its name, or by a mapping of name and parameters."""
    if isinstance(method, str):
        return {"name": method, "parameters": {}}
    return {"name": method.get("name", ""), "parameters": {k: v for k, v in method.items() if k != "name"}}
