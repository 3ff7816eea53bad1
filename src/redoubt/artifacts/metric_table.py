"""A table of metrics: one row for each model, one column for each metric under an attack.

Source: DeepDefense, table 1 and supplementary tables 1 and 2.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.judging.cells import COLUMNS, cell, shown
from redoubt.lazily import lazy
from redoubt.records import Strict
from redoubt.study.needs import ANY, Need
from redoubt.study.published import read_published

pd = lazy("pandas")


class Column(Strict):
    """A metric over the rows of an attack."""

    label: str
    metric: str
    attack: str
    where: dict[str, float | str] = {}
    apart: str | None = Field(None, description="why our numbers may not be set against the printed ones, if so")


class Parameters(Strict):
    """Rows from top to bottom, columns from left to right, and the labels that tell rows apart."""

    models: list[str]
    columns: list[Column]
    show: list[str] = ["dataset", "network", "method"]


def needs(parameters: dict[str, Any]) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, column["attack"]) for model in parameters["models"] for column in parameters["columns"]]


def metrics(parameters: dict[str, Any]) -> list[str]:
    """Return the metrics that are computed."""
    return [column["metric"] for column in parameters["columns"]]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    places = [(model, column) for model in parameters.models for column in parameters.columns]
    known = [{"row": model, "column": column.label, "metric": column.metric} for model, column in places]
    return [dict.fromkeys(COLUMNS, ANY) | cell for cell in known]


def picked(rows: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    """Return the rows whose columns have the given values.

    Raises:
        RedoubtError: no row has them.
    """
    for name, value in where.items():
        rows = rows[rows[name] == value] if name in rows else rows.iloc[:0]
    if rows.empty:
        raise RedoubtError(f"where: no attacked image has {where}; look at the attack's parameters")
    return rows


def draw(entry: dict[str, Any], inputs: Inputs) -> Drawing:
    """Return the cells and their table as Markdown."""
    options, cells = entry["parameters"], []
    published = read_published(entry["published"])
    for model in options["models"]:
        for column in options["columns"]:
            missing = inputs.missing(model, column["attack"])
            rows = None if missing else picked(inputs.rows(model, column["attack"]), column["where"])
            known = published.get((entry["id"], model, column["label"]))
            found = cell(entry, (model, column["label"]), column["metric"], rows, missing, known)
            if column["apart"] is not None and missing is None:
                found |= {"verdict": "not-comparable", "reason": column["apart"]}
            cells.append(found)
    data = pd.DataFrame(cells, columns=COLUMNS)
    return Drawing(data, text=markdown(entry, data))


def markdown(entry: dict[str, Any], data: pd.DataFrame) -> str:
    """Return the table as Markdown: paper, ours, difference, interval and n in every cell."""
    options = entry["parameters"]
    header = [*options["show"], *(column["label"] for column in options["columns"])]
    lines = [f"# {entry['title']}", "", f"_{entry['stamp']}_", "", entry["caption"], ""]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    reasons: list[str] = []
    for model in options["models"]:
        labels = entry["models"][model]["labels"]
        own = data[data["row"] == model].to_dict("records")
        lines.append("| " + " | ".join([*(labels.get(key, "") for key in options["show"]), *map(_text, own)]) + " |")
        reasons += [found["reason"] for found in own if found["verdict"] == "not-run"]
    lines += ["", "Cells: paper → ours [95 % interval], difference, n images, verdict."]
    lines += [f"- not run: {reason}" for reason in dict.fromkeys(reasons)]
    return "\n".join(lines) + "\n"


def _text(found: dict[str, Any]) -> str:
    metric = found["metric"]
    paper = shown(metric, found["published"])
    if found["verdict"] == "not-run":
        return f"{paper} → not run"
    interval = f"[{shown(metric, found['ci_low'])}, {shown(metric, found['ci_high'])}]"
    sign = "" if pd.isna(found["difference"]) or found["difference"] < 0 else "+"
    difference = sign + shown(metric, found["difference"])
    ours = shown(metric, found["reproduced"])
    return f"{paper} → **{ours}** {interval}, {difference}, n={found['n']}, {found['verdict']}"
