"""Reading config files: YAML to typed records, with errors that name file and key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from redoubt.errors import RedoubtError
from redoubt.records import explain
from redoubt.study.config import Method


def read_yaml(root: Path, name: str) -> Any:
    """Read the YAML file `name` below `root`.

    Raises:
        RedoubtError: it is missing or not YAML; the message names file and line.
    """
    try:
        value = yaml.load((root / name).read_text(encoding="utf-8"), _UniqueKeys)  # a SafeLoader
    except FileNotFoundError:
        raise RedoubtError(f"{name}: no such file") from None
    except UnicodeDecodeError as error:
        raise RedoubtError(f"{name}: not UTF-8: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise RedoubtError(f"{name}: {line}{getattr(error, 'problem', None) or error}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a date or number that only looks like one
        raise RedoubtError(f"{name}: not YAML: {error}") from None
    except RecursionError:
        raise RedoubtError(f"{name}: nested too deeply") from None
    check_plain(value, name)
    return value


_DEEPEST = 30
_LARGEST = 2**63
_LONGEST = 10_000
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def check_plain(value: Any, file: str, key: str = "", depth: int = 0) -> None:
    """Refuse what YAML can hold and JSON, a command line or a tensor cannot.

    Raises:
        RedoubtError: a date, NaN, a vast number, text that is none; the message names file and key.
    """
    if isinstance(value, Mapping | list):
        if depth == _DEEPEST:
            raise RedoubtError(f"{file}: {key}: nested too deeply")
        for name, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            within = f"{key}.{name if str(name).isprintable() else repr(name)}".removeprefix(".")
            if not isinstance(name, str | int | float):
                raise RedoubtError(f"{file}: {within}: a key is text or a number, not {type(name).__name__}")
            check_plain(name, file, within, depth)
            check_plain(part, file, within, depth + 1)
    elif isinstance(value, str):
        if not _is_text(value):
            expected = f"at most {_LONGEST} characters are expected, none of them a control character"
            raise RedoubtError(f"{file}: {key[:80]}: {value!r:.40}: {expected}")
    elif isinstance(value, int | float):
        if not -_LARGEST < value < _LARGEST:  # NaN is refused too
            raise RedoubtError(f"{file}: {key}: {value!r:.40}: out of range")
    elif value is not None:
        raise RedoubtError(f"{file}: {key}: {value!r}: text or a number is expected; put it in quotes")


def _is_text(value: str) -> bool:
    """Tell whether all characters can be written in UTF-8 and passed on a command line."""
    return len(value) <= _LONGEST and not _NO_TEXT.search(value)


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
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
        return kind.model_validate(dict(value))
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
    return {"name": str(method.get("name", "")), "parameters": {k: v for k, v in method.items() if k != "name"}}
