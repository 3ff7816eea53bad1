"""Finished rows of several attacks on one model, as those of one attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.lazily import pd
from redoubt.rows import read_rows
from redoubt.study.entries.attack import AttackEntry, Select


def combines(entry: AttackEntry) -> bool:
    """Return whether an attack is made of the rows of others, so that no model is asked."""
    return hasattr(registry.method(*entry.method), "combine")


def combined(entry: AttackEntry, paths: Sequence[Path], model: str) -> pd.DataFrame:
    """Return the rows of an attack that is made of those of others.

    Args:
        entry: of the attack; of every member the images that it selects count.
        paths: rows of its members.
        model: that all members must have attacked.

    Raises:
        RedoubtError: a member is of another model, of other images, or given twice.
    """
    method, members = registry.method(*entry.method), {}
    for path in paths:
        rows = read_rows(path)
        name = rows.attrs["attack"]["id"]
        if (own := rows["model"].iloc[0]) != model:
            raise RedoubtError(f"{entry.id}: {path} has the rows of {own}, not of {model}")
        if name in members:
            raise RedoubtError(f"{entry.id}: {name} is given twice")
        members[name] = selected(rows, entry.select)
    combine: Callable[..., pd.DataFrame] = method.combine
    return combine(members, registry.parameters(*entry.method, entry.parameters))


def selected(rows: pd.DataFrame, select: Select) -> pd.DataFrame:
    """Return the rows of the images that an entry selects, of an attack that selected these and perhaps others."""
    if select.label is not None:
        rows = rows[rows["label"] == select.label]
    if select.not_label is not None:
        rows = rows[rows["label"] != select.not_label]
    images: Any = rows["index"].drop_duplicates().sort_values()
    return rows[rows["index"].isin(images.iloc[: select.images])]
