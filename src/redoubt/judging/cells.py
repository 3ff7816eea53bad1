"""Cells: one published number beside the reproduced one, with its interval and verdict.

A `Cell` is a row of the CSV files of tables and of scorecard.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from redoubt.judging.estimate import Estimate, NoValue, estimate
from redoubt.judging.tables import read_csv, read_records, required
from redoubt.lazily import pd
from redoubt.metrics.interface import read
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.published import Published

Judgement = Literal[
    "reproduced",
    "reproduced with a declared change",
    "order only",
    "deviates",
    "undecided",
    "not-comparable",
    "not-run",
]
VERDICTS: tuple[Judgement, ...] = get_args(Judgement)


class Found(Strict):
    """A metric over rows: the facts of an estimate, or the reason why there is no number."""

    reproduced: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    seeds: int = 0
    std: float | None = None
    std_repetitions: float | None = None
    over: str | None = None
    reason: str | None = None


class Judged(Strict):
    """A printed number beside the reproduced one.

    Attributes:
        published, published_std: the printed number, and its standard deviation where the paper prints one.
        reproduced: our number, the mean over training runs.
        difference: ours less the printed one.
        ci_low, ci_high: the 95 % interval of ours, over what `over` says.
        ci90_low, ci90_high: the 90 % interval.
        n: number of images.
        seeds: number of training runs.
        std: standard deviation between training runs (n - 1); None with one run.
        std_repetitions: standard deviation between repetitions of a random model; None with one.
        margin: how far ours may be from the printed number to be `reproduced`.
        not_counted: why the cell is in no count, such as that it repeats another; None where it counts.
        reason: of a verdict that the numbers do not give.
    """

    study: str
    artifact: str
    row: str
    column: str
    metric: str
    published: float | None = None
    published_std: float | None = None
    reproduced: float | None = None
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci90_low: float | None = None
    ci90_high: float | None = None
    n: int = 0
    seeds: int = 0
    std: float | None = None
    std_repetitions: float | None = None
    over: str | None = None
    margin: float | None = None
    not_counted: str | None = None
    verdict: Judgement
    reason: str | None = None


class Adaptive(Strict):
    """What strong attacks of the same threat leave of a number, see `redoubt.judging.adaptive`.

    Attributes:
        adaptive: the metric over the worst of several attacks, the mean over training runs.
        adaptive_low, adaptive_high: its 95 % interval.
        adaptive_n: number of images.
        adaptive_by: the attack that decided most of the images which the paper's own did not.
        queries: forward and backward passes of all attacks, the mean over images.
        optimality: how much of the achievable the paper's own attack found.
        adaptive_reason: why there is no number, if so.
    """

    adaptive: float | None = None
    adaptive_low: float | None = None
    adaptive_high: float | None = None
    adaptive_n: int | None = None
    adaptive_by: str | None = None
    queries: float | None = None
    optimality: float | None = None
    adaptive_reason: str | None = None


class Cell(Adaptive, Judged):
    """A cell of a table; its fields, those of `Judged` first, are the columns of the file, in their order."""

    @property
    def worse(self) -> bool:
        """Whether strong attacks leave less of the defense than the paper's attack did."""
        if self.adaptive is None or self.reproduced is None:
            return False
        gain = read(self.metric).GAIN
        return self.adaptive > self.reproduced if gain else self.adaptive < self.reproduced


COLUMNS = list(Cell.model_fields)
FOUND = list(Found.model_fields)


def read_cells(path: Path) -> list[Cell] | None:
    """Return the cells of a CSV file, further columns left out; None where it holds something else.

    Raises:
        RedoubtError: the file is missing or broken, or a value is not what its column asks for.
    """
    rows = read_csv(path)
    return read_records(path, Cell) if rows and set(required(Cell)) <= set(rows[0]) else None


def _estimated(metric: str, rows: pd.DataFrame | None, missing: str | None) -> Estimate | Found:
    if missing is not None or rows is None:
        return Found(reason=missing)
    try:
        return estimate(metric, rows)
    except NoValue as reason:
        return Found(seeds=int(rows["seed"].nunique()), reason=str(reason))


def _facts(found: Estimate) -> Found:
    number = {"reproduced": found.value, "ci_low": found.low, "ci_high": found.high}
    spread = {"std": found.std, "std_repetitions": found.std_repetitions, "over": found.over}
    return Found(**number, n=found.n, seeds=found.seeds, **spread)


def measured(metric: str, rows: pd.DataFrame | None, missing: str | None) -> Found:
    """Return what a metric is over rows; without a number, the reason why.

    Args:
        metric: its spelling.
        rows: attacked images, of all seeds; None when there are none.
        missing: why there are none.
    """
    found = _estimated(metric, rows, missing)
    return _facts(found) if isinstance(found, Estimate) else found


@dataclass(frozen=True)
class Print:
    """What a paper prints in a cell, if anything, and how near ours must be.

    Attributes:
        number: that is printed.
        margin: see `redoubt.judging.margins`.
        apart: why our number may not be compared with the printed one, if so.
        not_counted: why the cell is in no count, if so.
    """

    number: Published | None = None
    margin: float | None = None
    apart: str | None = None
    not_counted: str | None = None


def cell(
    entry: ArtifactEntry,
    place: tuple[str, str],
    metric: str,
    rows: pd.DataFrame | None,
    missing: str | None,
    paper: Print,
    strong: Adaptive | None = None,
) -> Cell:
    """Return one cell of a table, `undecided` where it is to be judged (`redoubt.judging.verdicts`).

    Nothing is compared where the paper prints no number, or where the scale or the column says so.

    Args:
        entry: of the artifact.
        place: row and column.
        metric: its spelling.
        rows: attacked images, of all seeds; None when there are none.
        missing: why there are none.
        paper: what it prints.
        strong: what strong attacks leave, None where none answer the column.
    """
    known: dict[str, Any] = {"study": entry.study, "artifact": entry.id, "row": place[0], "column": place[1]}
    known |= {"metric": metric, "not_counted": paper.not_counted}
    known |= strong.model_dump() if strong is not None else {}
    if paper.number is not None:
        known |= {"published": paper.number.value, "published_std": paper.number.std, "margin": paper.margin}
    found = _estimated(metric, rows, missing)
    if isinstance(found, Found):
        return Cell(**known, **found.model_dump(), verdict="not-run")
    facts = _facts(found).model_dump(exclude={"reason"}) | {"ci90_low": found.low_90, "ci90_high": found.high_90}
    if paper.number is not None:
        facts["difference"] = found.value - paper.number.value
    reason = paper.apart if entry.comparable else entry.stamp
    if paper.number is None:
        reason = paper.apart or "the paper prints no number"
    return Cell(**known, **facts, verdict="not-comparable" if reason else "undecided", reason=reason)


def shown(metric: str, value: float | None) -> str:
    """Return a value as it is printed: percent with two decimals, scientific or plain with three digits."""
    if value is None or pd.isna(value):
        return "—"
    unit = read(metric).unit
    if unit == "percent":
        return f"{100 * value:.2f} %"
    return f"{value:.2e}" if unit == "scientific" else f"{value:.4g}"


def with_spread(metric: str, value: float | None, std: float | None) -> str:
    """Return a value as it is printed, with a standard deviation where there is one."""
    return shown(metric, value) if std is None or pd.isna(std) else f"{shown(metric, value)} ± {shown(metric, std)}"
