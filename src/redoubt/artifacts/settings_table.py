"""A table of settings: what models are run with, beside what the paper prints; it reads the config alone.

Source: DeepDefense, table 2.
"""

from __future__ import annotations

from typing import Any

from redoubt.artifacts._markdown import called, table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import pd
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need
from redoubt.study.published import read_published

KIND = "table"
COLUMNS = ["row", "column", "key", "published", "ours", "agrees"]


class Column(Strict):
    """A key of a model's entry."""

    label: str
    key: str


class Parameters(Strict):
    """Models from top to bottom, columns from left to right, and the labels that name rows."""

    models: list[str]
    columns: list[Column]
    show: list[str] = ["dataset", "network", "method"]


def needs(parameters: Parameters) -> list[Need]:
    """Return nothing: no model has to be trained."""
    return []


def models(parameters: Parameters) -> list[str]:
    """Return the models that are shown."""
    return parameters.models


def settings(parameters: Parameters) -> list[str]:
    """Return the paths of the settings that are shown."""
    return [column.key for column in parameters.columns]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    places = [(model, column) for model in parameters.models for column in parameters.columns]
    known = [{"row": model, "column": column.label, "key": column.key} for model, column in places]
    return [dict.fromkeys(COLUMNS, ANY) | cell for cell in known]


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Return the settings, and their table as Markdown."""
    rows, printed = [], read_published(entry.published)
    for cell in cells(entry.parameters):
        ours = entry.models[cell["row"]].settings.get(cell["key"])
        facts = cell | {"published": None, "ours": spelt(ours), "agrees": None}
        if (paper := printed.get((entry.id, cell["row"], cell["column"]))) is not None:
            facts |= {"published": f"{paper.value:g}", "agrees": ours == paper.value}
        rows.append(facts)
    data = pd.DataFrame(rows, columns=COLUMNS)
    return Drawing(data, text=markdown(entry, data))


def spelt(value: Any) -> str:
    """Return a setting as text: `4: 0.5` for a mapping, words for a list, nothing where a model does not have it."""
    if isinstance(value, dict):
        return ", ".join(f"{_number(key)}: {_number(part)}" for key, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "" if value is None else _number(value)


def _number(value: Any) -> str:
    """Return a number with the digits that it needs, and anything else as text; keys of JSON are text too."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return str(value)


def markdown(entry: ArtifactEntry[Parameters], data: pd.DataFrame) -> str:
    """Return the table as Markdown."""
    show, rows = entry.parameters.show, []
    for model in entry.parameters.models:
        rows.append([*called(entry, model, show), *map(_text, data[data["row"] == model].to_dict("records"))])
    notes = ["", "Cells: ours; ✓ as the paper prints it, or paper → **ours**; without a mark the paper prints none."]
    return table(entry, [*show, *(column.label for column in entry.parameters.columns)], rows, notes)


def _text(cell: dict[str, Any]) -> str:
    if cell["agrees"] is None:
        return cell["ours"]
    return f"{cell['ours']} ✓" if cell["agrees"] else f"{cell['published']} → **{cell['ours']}**"
