"""A table of metrics: one row for each model, one column for each metric under an attack.

Source: DeepDefense, table 1 and supplementary tables 1 and 2.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Protocol, Self

from pydantic import Field, model_validator

from redoubt.artifacts._markdown import called, table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.judging.adaptive import adaptive
from redoubt.judging.cells import COLUMNS, Adaptive, Cell, cell, shown, with_spread
from redoubt.judging.paper import Paper
from redoubt.judging.tables import frame
from redoubt.judging.verdicts import judge
from redoubt.lazily import pd
from redoubt.metrics.interface import Named
from redoubt.records import Strict
from redoubt.rows import picked
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need, Sampled

KIND = "table"
ADDRESS = ("row", "column")  # columns that name a number in a claim
TIMED = "time-ratio"


class Column(Strict):
    """A metric over the rows of an attack, or over what was timed while the model was trained."""

    label: str
    metric: Named
    attack: str | None = Field(None, description="null: the measurements of the probe epoch-time, for time-ratio")
    where: dict[str, float | str] = {}
    apart: str | None = Field(None, description="why our numbers may not be compared with the printed ones, if so")
    definition: list[str] = Field(
        [], description="rows, or patterns with *, whose value follows from a definition, so that it is not counted"
    )
    repeats: list[str] = Field([], description="rows, or patterns with *, whose cells another table has already")

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if (self.attack is None) != (self.metric == TIMED):
            raise ValueError(f"{self.label}: {TIMED} is measured in trainings, so it has no attack; give others one")
        return self

    def not_counted(self, row: str) -> str | None:
        """Return why a cell of the column is in no count, or None."""
        reasons = {"by definition": self.definition, "repeats another table": self.repeats}
        found = (why for why, rows in reasons.items() if any(fnmatchcase(row, pattern) for pattern in rows))
        return next(found, None)


class Parameters(Strict):
    """Rows from top to bottom, columns from left to right, and the labels that name rows."""

    models: list[str]
    columns: list[Column]
    show: list[str] = ["dataset", "network", "method"]
    block: list[str] = Field(
        ["dataset", "network"], description="labels that agree in rows whose printed numbers are of competing methods"
    )
    repeats: str | None = Field(None, description="table whose numbers this one repeats, so that it is not counted")


class Columned(Protocol):
    """Parameters that name models and columns, as those of other drawings of such numbers do too."""

    @property
    def models(self) -> list[str]:
        """Ids of models."""

    @property
    def columns(self) -> list[Column]:
        """Metrics under attacks."""


def needs(parameters: Columned) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, column.attack) for model in parameters.models for column in parameters.columns]


def metrics(parameters: Columned) -> list[str]:
    """Return the metrics that are computed."""
    return [column.metric for column in parameters.columns]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    places = [(model, column) for model in parameters.models for column in parameters.columns]
    known = [{"row": model, "column": column.label, "metric": column.metric} for model, column in places]
    return [dict.fromkeys(COLUMNS, ANY) | cell for cell in known]


def timed(parameters: Columned) -> list[str]:
    """Return the models whose training must have been timed."""
    return [need.model for need in needs(parameters) if need.attack is None]


def samples(parameters: Parameters) -> list[Sampled]:
    """Return what every cell is made of."""
    return [
        Sampled({"row": model, "column": column.label}, model, column.attack, column.metric, dict(column.where))
        for model in parameters.models
        for column in parameters.columns
    ]


answerable = samples
"""What strong attacks may answer, by row and column."""


def measured_rows(column: Column, model: str, inputs: Inputs) -> tuple[str | None, pd.DataFrame | None]:
    """Return why there are no rows behind a cell, or None; and the rows."""
    if (missing := inputs.missing(model, column.attack)) is not None:
        return missing, None
    rows = inputs.times(model) if column.attack is None else inputs.rows(model, column.attack)
    return None, picked(rows, column.where)


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Return the cells and their table as Markdown."""
    options, cells = entry.parameters, []
    paper = Paper(entry, options.block, {column.label: column.metric for column in options.columns})
    for model in options.models:
        for column in options.columns:
            missing, images = measured_rows(column, model, inputs)
            repeats = f"repeats {options.repeats}" if options.repeats else column.not_counted(model)
            printed = paper.prints(model, column.label, column.apart, repeats)
            strong = _strong(entry, model, column, images, inputs)
            cells.append(cell(entry, (model, column.label), column.metric, images, missing, printed, strong))
    judged = judge(entry, cells, paper.block)
    return Drawing(frame(Cell, judged), text=markdown(entry, judged))


def _strong(
    entry: ArtifactEntry[Parameters], model: str, column: Column, own: pd.DataFrame | None, inputs: Inputs
) -> Adaptive | None:
    """Return what strong attacks leave of a cell, None where none answer it."""
    answer = entry.answered(model, column.label)
    if answer is None or column.attack is None:
        return None
    if (reason := inputs.missing(model, answer.attack)) is not None:
        return Adaptive(adaptive_reason=reason)
    return adaptive(column.metric, own, picked(inputs.rows(model, answer.attack), answer.where), column.attack)


def markdown(entry: ArtifactEntry[Parameters], cells: list[Cell]) -> str:
    """Return the table as Markdown: paper, ours, difference, interval and n in every cell."""
    options, rows = entry.parameters, []
    for model in options.models:
        own = [cell for cell in cells if cell.row == model]
        rows.append([*called(entry, model, options.show), *map(_text, own)])
    notes = [
        "",
        "Cells: paper → ours ± deviation between runs [95 % interval], difference, n images, verdict.",
    ]
    if any(cell.adaptive is not None for cell in cells):
        notes[-1] += " A second arrow leads to what strong attacks leave; where that is worse, ours is struck through."
    notes += [f"- intervals are over {over}" for over in dict.fromkeys(cell.over for cell in cells if cell.over)]
    notes += [f"- not run: {reason}" for reason in dict.fromkeys(_reasons(cells))]
    return table(entry, [*options.show, *(column.label for column in options.columns)], rows, notes)


def _reasons(cells: list[Cell]) -> list[str]:
    return [str(cell.reason) for cell in cells if cell.verdict == "not-run"]


def _text(cell: Cell) -> str:
    metric = cell.metric
    paper = with_spread(metric, cell.published, cell.published_std)
    if cell.verdict == "not-run":
        return f"{paper} → not run"
    interval = f"[{shown(metric, cell.ci_low)}, {shown(metric, cell.ci_high)}]"
    sign = "" if cell.difference is None or cell.difference < 0 else "+"
    difference = sign + shown(metric, cell.difference)
    number = with_spread(metric, cell.reproduced, cell.std)
    ours = f"~~{number}~~" if cell.worse else f"**{number}**"
    runs = f", {cell.seeds} runs" if cell.seeds > 1 else ""
    verdict = f"({cell.verdict})" if cell.not_counted else cell.verdict
    margin = f", margin {shown(metric, cell.margin)}" if cell.margin is not None else ""
    return f"{paper} → {ours} {interval}, {difference}{margin}, n={cell.n}{runs}, {verdict}{_left(cell)}"


def _left(cell: Cell) -> str:
    """Return what strong attacks leave, in words; nothing where that is not known."""
    if cell.adaptive is None:
        return ""
    interval = f"[{shown(cell.metric, cell.adaptive_low)}, {shown(cell.metric, cell.adaptive_high)}]"
    by = f" by {cell.adaptive_by}" if cell.adaptive_by else ""
    return f" → **{shown(cell.metric, cell.adaptive)}** {interval}, n={cell.adaptive_n}{by}"
