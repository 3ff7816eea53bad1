"""The words of the study language, expanded: from what a study's files say to plain entries.

`$name` stands for the models of a group of study.yaml, alone or within a list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from redoubt.errors import RedoubtError, shortened
from redoubt.study.reading import known

Groups = Mapping[str, list[str]]
_NAMES_A_GROUP = re.compile(r"\$([a-z0-9.-]+)")  # no id of a model has a $, and no formula $...$ matches


def resolved(groups: Groups, models: list[str], where: str) -> dict[str, list[str]]:
    """Return groups as lists of ids; a group may name groups above it.

    Raises:
        RedoubtError: an id is not among `models`, or a group is not above; the message begins with `where`.
    """
    result: dict[str, list[str]] = {}
    for name, members in groups.items():
        result[name] = with_groups(members, result, f"{where}.{name}")
        for model in result[name]:
            known(model, models, f"{where}.{name}")
    return result


def with_groups(value: Any, groups: Groups, where: str) -> Any:
    """Return data with the models of a group in place of its `$name`.

    Raises:
        RedoubtError: there is no such group; the message begins with `where` and the place below it.
    """
    if isinstance(value, Mapping):
        return {key: with_groups(part, groups, _below(where, key)) for key, part in value.items()}
    if isinstance(value, list):
        result: list[Any] = []
        for number, part in enumerate(value):
            new = with_groups(part, groups, _below(where, number))
            result += new if isinstance(part, str) and isinstance(new, list) else [new]
        return result
    if isinstance(value, str) and (found := _NAMES_A_GROUP.fullmatch(value)):
        if found[1] not in groups:
            names = shortened(list(groups), 20) or "none"
            raise RedoubtError(f"{where}: {value!r}: there is no such group; study.yaml has {names}")
        return list(groups[found[1]])
    return value


def _below(where: str, key: Any) -> str:
    name = str(key) if str(key).isprintable() else repr(key)
    return f"{where}{name}" if where.endswith(": ") else f"{where}.{name}"
