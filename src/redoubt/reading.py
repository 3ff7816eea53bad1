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


def read_yaml(root: Path, name: str) -> Any:
    """Read the YAML file `name` below `root`.

    Raises:
        RedoubtError: it is missing or not YAML; the message names file and line.
    """
    try:
        return yaml.load((root / name).read_text(encoding="utf-8"), _UniqueKeys)  # a SafeLoader
    except FileNotFoundError:
        raise RedoubtError(f"{name}: no such file") from None
    except UnicodeDecodeError as error:
        raise RedoubtError(f"{name}: not UTF-8: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise RedoubtError(f"{name}: {line}{getattr(error, 'problem', error)}") from None


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where YAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
                seen.add(key.value)
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
