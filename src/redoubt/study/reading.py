"""Reading config files: YAML to typed records and checked methods, with errors that name file and key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from redoubt import registry
from redoubt.errors import RedoubtError, shortened
from redoubt.study.config import Method
from redoubt.study.entries.base import Method as Named
from redoubt.study.entries.base import differing
from redoubt.study.fractions import FRACTION, fraction


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
    """Reject YAML values that cannot be represented in JSON, on a command line or in a tensor.

    Raises:
        RedoubtError: a date, NaN, a number out of range, or text with control characters; with file and key.
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


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(_Loader):
    """A safe loader that refuses a key given twice, where YAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _constructed(loader: Any, node: yaml.ScalarNode) -> float:
    try:
        return fraction(node.value)
    except ValueError as error:
        raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None


_UniqueKeys.add_implicit_resolver("!fraction", re.compile(rf"^{FRACTION}$"), list("-+0123456789"))
_UniqueKeys.add_constructor("!fraction", _constructed)


def merged(base: Mapping, change: Mapping) -> dict:
    """Return `base` with the keys of `change`; mappings within are merged in the same way.

    A mapping whose keys are numbers, such as `drops`, is one value: it is replaced.
    """
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        merge = _by_name(old) and _by_name(value)
        result[key] = merged(old or {}, value) if merge else value
    return result


def _by_name(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def named(method: Method) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of a method given by its name, or by a mapping of name and parameters."""
    if isinstance(method, str):
        return method, {}
    return str(method.get("name", "")), {key: value for key, value in method.items() if key != "name"}


def checked(kind: str, name: str, values: Mapping[str, Any], where_name: str, where_parameters: str) -> Any:
    """Return the parameters of a method as a record.

    Raises:
        RedoubtError: no such method, or a wrong parameter; the message begins with where the one or the other is given.
    """
    try:
        registry.method(kind, name)
    except RedoubtError as error:
        raise RedoubtError(f"{where_name}: {error}") from None
    try:
        return registry.parameters(kind, name, dict(values))
    except RedoubtError as error:
        raise RedoubtError(f"{where_parameters}.{error}") from None


def spelt(name: str, parameters: BaseModel) -> dict[str, Any]:
    """Return name and parameters of a method as an entry spells them: without those that have their default."""
    return Named(name=name, parameters=differing(parameters)).model_dump()


def known(key: str, among: Iterable[str], where: str) -> None:
    """Refuse a key that is not among others."""
    if key not in (among := list(among)):
        raise RedoubtError(f"{where}: {key!r} is not one of {shortened(among, 20)}")
