"""A table of metrics: one row for each model, one column for each metric under an attack.

Source: DeepDefense, table 1 and supplementary tables 1 and 2.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from redoubt.artifacts._markdown import table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.judging.cells import COLUMNS, cell, shown
from redoubt.lazily import pd
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need
from redoubt.study.published import read_published


class Column(Strict):
    """A metric over the rows of an attack."""

    label: str
    metric: str
    attack: str
    where: dict[str, float | str] = {}
    apart: str | None = Field(None, description="why our numbers may not be compared with the printed ones, if so")


class Parameters(Strict):
    """Rows from top to bottom, columns from left to right, and the labels that name rows."""

    models: list[str]
    columns: list[Column]
    show: list[str] = ["dataset", "network", "method"]


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, column.attack) for model in parameters.models for column in parameters.columns]


def metrics(parameters: Parameters) -> list[str]:
    """Return the metrics that are computed."""
    return [column.metric for column in parameters.columns]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    places = [(model, column) for model in parameters.models for column in parameters.columns]
    known = [{"row": model, "column": column.label, "metric": column.metric} for model, column in places]
    return [dict.fromkeys(COLUMNS, ANY) | cell for cell in known]


def picked(rows: pd.DataFrame, values: dict[str, Any]) -> pd.DataFrame:
    """Return the rows whose columns have the given values.

    Raises:
        RedoubtError: no row has them.
    """
    for name, value in values.items():
        rows = rows[rows[name] == value] if name in rows else rows.iloc[:0]
    if rows.empty:
        raise RedoubtError(f"where: no attacked image has {values}; check the parameters of the attack")
    return rows


def draw(entry: ArtifactEntry, inputs: Inputs) -> Drawing:
    """Return the cells and their table as Markdown."""
    cells, published = [], read_published(entry.published)
    for model in entry.parameters.models:
        for column in entry.parameters.columns:
            missing = inputs.missing(model, column.attack)
            images = None if missing else picked(inputs.rows(model, column.attack), column.where)
            printed = published.get((entry.id, model, column.label))
            facts = cell(entry, (model, column.label), column.metric, images, missing, printed)
            if column.apart is not None and missing is None:
                facts |= {"verdict": "not-comparable", "reason": column.apart}
            cells.append(facts)
    data = pd.DataFrame(cells, columns=COLUMNS)
    return Drawing(data, text=markdown(entry, data))


def markdown(entry: ArtifactEntry, data: pd.DataFrame) -> str:
    """Return the table as Markdown: paper, ours, difference, interval and n in every cell."""
    options, rows = entry.parameters, []
    for model in options.models:
        labels, cells = entry.models[model].labels, data[data["row"] == model].to_dict("records")
        rows.append([*(labels.get(key, "") for key in options.show), *map(_text, cells)])
    notes = ["", "Cells: paper → ours [95 % interval], difference, n images, verdict."]
    notes += [f"- not run: {reason}" for reason in data.loc[data["verdict"] == "not-run", "reason"].unique()]
    return table(entry, [*options.show, *(column.label for column in options.columns)], rows, notes)


def _text(facts: dict[str, Any]) -> str:
    metric = facts["metric"]
    paper = shown(metric, facts["published"])
    if facts["verdict"] == "not-run":
        return f"{paper} → not run"
    interval = f"[{shown(metric, facts['ci_low'])}, {shown(metric, facts['ci_high'])}]"
    sign = "" if pd.isna(facts["difference"]) or facts["difference"] < 0 else "+"
    difference = sign + shown(metric, facts["difference"])
    ours = shown(metric, facts["reproduced"])
    return f"{paper} → **{ours}** {interval}, {difference}, n={facts['n']}, {facts['verdict']}"
