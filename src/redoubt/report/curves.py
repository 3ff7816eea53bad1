"""Which numbers of tables are points of a figure: the same metric of the same rows of an attack on a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from redoubt.study.catalog import Catalog
from redoubt.study.needs import Sampled

Curves = dict[tuple[str, str], list[dict[str, str]]]


def is_point(number: Sampled, curve: Sampled) -> bool:
    """Return whether a number of a table is a point, or a bar, of what a figure draws."""
    if (number.model, number.attack, number.metric) != (curve.model, curve.attack, curve.metric):
        return False
    fixed = {name: value for name, value in number.where.items() if name != curve.along}
    return number.attack is not None and fixed == curve.where


def curves(catalog: Catalog) -> dict[tuple[str, str], Curves]:
    """Return by table, and by row and column, the curves that a number is a point of.

    Returns:
        for each curve `figure`, the anchor of the figure, its `title`, and `at`, which of its curves it is.
    """
    drawn = [
        (raw.title, f"{study}-{key}", each)
        for (study, key), raw in catalog.artifacts.items()
        if raw.kind == "figure"
        for each in raw.asked("samples")
    ]
    found: dict[tuple[str, str], Curves] = {}
    for place, raw in catalog.artifacts.items():
        for number in raw.asked("samples") if raw.kind == "table" else ():
            if {"row", "column"} <= number.cell.keys():
                key = (number.cell["row"], number.cell["column"])
                found.setdefault(place, {})[key] = [
                    {"figure": anchor, "title": title, "at": _called(curve)}
                    for title, anchor, curve in drawn
                    if is_point(number, curve)
                ]
    return found


def _called(curve: Sampled) -> str:
    """Return what a figure calls a curve, without the ids that the panel of a number has already."""
    words = [str(value) for name, value in curve.cell.items() if name not in ("model", "attack")]
    return ", ".join(dict.fromkeys(filter(None, words)))


def points(views: Iterable[Mapping[str, Any]], told: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """Return by figure, and by the anchor of a table, what the page shows of the cells that are points of the figure.

    Args:
        views: of all cells.
        told: by the anchor of a cell what its panel tells.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for view in views:
        origin = told[view["anchor"]]["origin"] or {}
        table = f"{view['study']['raw']}-{view['artifact']['raw']}"
        for figure in dict.fromkeys(curve["figure"] for curve in origin.get("curves", [])):
            found.setdefault(figure, {}).setdefault(table, []).append(view)
    return found
