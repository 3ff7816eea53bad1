"""Two runs beside each other: which cells changed, by how much, and which claims turned.

A cell is `byte-equal` where its rows are spelt alike in both scorecards; `value-equal` where its numbers are alike to a
billionth and something else is not (a verdict, a reason), or no run has a number; `within the interval` where a number
differs and lies within the 95 % interval of the other run, or the other's within its; else `outside`. Both the
reproduced number and the adaptive one count, the worse of the two. A cell that has a number in one run alone is `in one
run`.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

from redoubt.errors import RedoubtError
from redoubt.judging.cells import Cell, Judgement
from redoubt.judging.claims import Verdict
from redoubt.judging.decided import Row, read, totals
from redoubt.judging.tables import read_csv, read_records
from redoubt.records import Strict

Grade = Literal["byte-equal", "value-equal", "within the interval", "in one run", "outside"]
GRADES: tuple[Grade, ...] = get_args(Grade)
EQUAL = ("byte-equal", "value-equal")
ALIKE = 1e-9
"""Relative difference of numbers that are equal but for the order of sums."""

Place = tuple[str, str, str, str]


class Number(Strict):
    """What one run says of a cell."""

    reproduced: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    adaptive: float | None = None
    adaptive_low: float | None = None
    adaptive_high: float | None = None
    verdict: Judgement


class Pair(Strict):
    """A cell in both runs; None is a run that does not have it."""

    study: str
    artifact: str
    row: str
    column: str
    metric: str
    grade: Grade
    first: Number | None
    second: Number | None


class Said(Strict):
    """What one run says of a claim: on our numbers, and under strong attacks."""

    here: Verdict
    adaptive: Verdict | None


class Turned(Strict):
    """A claim of both runs on which they do not say the same."""

    study: str
    claim: str
    statement: str
    first: Said
    second: Said


class Comparison(Strict):
    """Two runs beside each other."""

    first: str
    second: str
    counts: dict[Grade, int]
    cells: list[Pair]
    claims: list[Turned]

    @property
    def changed(self) -> list[Pair]:
        """Cells whose numbers differ, the worst first."""
        different = [pair for pair in self.cells if pair.grade not in EQUAL]
        return sorted(different, key=lambda pair: -GRADES.index(pair.grade))


class Run:
    """The scorecard and the claims of a run.

    Args:
        folder: that holds scorecard.csv and claims.csv.
        name: by which it is called.

    Raises:
        RedoubtError: a file is missing or broken, or a cell is there twice.
    """

    def __init__(self, folder: Path, name: str) -> None:
        path = folder / "scorecard.csv"
        self.name = name
        self.spelt: dict[Place, dict[str, str]] = {}
        self.cells: dict[Place, Cell] = {}
        for row, cell in zip(read_csv(path), read_records(path, Cell), strict=True):
            place = (cell.study, cell.artifact, cell.row, cell.column)
            if place in self.cells:
                raise RedoubtError(f"{path}: {', '.join(place)} is there twice")
            self.spelt[place], self.cells[place] = row, cell
        self.claims = {(row.study, row.claim): row for row in totals(read(folder / "claims.csv"))}


def compare(first: Run, second: Run) -> Comparison:
    """Return two runs beside each other, cells and claims in the order of the first.

    Raises:
        RedoubtError: they have no cell in common.
    """
    if not first.cells.keys() & second.cells.keys():
        raise RedoubtError(f"{first.name} and {second.name} have no cell in common")
    pairs = [_pair(first, second, place) for place in dict.fromkeys([*first.cells, *second.cells])]
    counts = Counter(pair.grade for pair in pairs)
    return Comparison(
        first=first.name,
        second=second.name,
        counts={grade: counts[grade] for grade in GRADES},
        cells=pairs,
        claims=[
            Turned(study=key[0], claim=key[1], statement=row.statement, first=_said(row), second=_said(other))
            for key, row in first.claims.items()
            if (other := second.claims.get(key)) is not None and _turned(row, other)
        ],
    )


def _pair(first: Run, second: Run, place: Place) -> Pair:
    one, other = first.cells.get(place), second.cells.get(place)
    names = dict(zip(("study", "artifact", "row", "column"), place, strict=True))
    known = one or other
    assert known is not None
    if one is None or other is None:
        grade: Grade = "in one run" if known.reproduced is not None else "value-equal"
    elif _spelt_alike(first.spelt[place], second.spelt[place]):
        grade = "byte-equal"
    else:
        grade = graded(one, other)
    return Pair(**names, metric=known.metric, grade=grade, first=_number(one), second=_number(other))


def _spelt_alike(one: dict[str, str], other: dict[str, str]) -> bool:
    """Return whether two rows are alike in the columns that both have: an older run lacks some."""
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def graded(one: Cell, other: Cell) -> Grade:
    """Return how far two cells are apart, by their numbers."""
    if (one.reproduced is None) != (other.reproduced is None):
        return "in one run"
    own = _apart(
        (one.reproduced, one.ci_low, one.ci_high),
        (other.reproduced, other.ci_low, other.ci_high),
    )
    strong = _apart(
        (one.adaptive, one.adaptive_low, one.adaptive_high),
        (other.adaptive, other.adaptive_low, other.adaptive_high),
    )
    return max(own, strong, key=GRADES.index)


Interval = tuple[float | None, float | None, float | None]


def _apart(one: Interval, other: Interval) -> Grade:
    if one[0] is None or other[0] is None:  # strong attacks were run in one of them at most
        return "value-equal"
    if all(_alike(*pair) for pair in zip(one, other, strict=True)):
        return "value-equal"
    return "within the interval" if _within(one[0], other) or _within(other[0], one) else "outside"


def _alike(one: float | None, other: float | None) -> bool:
    return one == other if one is None or other is None else math.isclose(one, other, rel_tol=ALIKE)


def _within(value: float, interval: Interval) -> bool:
    number, low, high = interval
    if low is None or high is None:
        return _alike(value, number)
    return low <= value <= high


def _number(cell: Cell | None) -> Number | None:
    return None if cell is None else Number(**{name: getattr(cell, name) for name in Number.model_fields})


def _turned(one: Row, other: Row) -> bool:
    """Return whether two runs say different things of a claim; what older runs do not say is no difference."""
    strong = (one.adaptive_verdict, other.adaptive_verdict)
    return one.said != other.said or (None not in strong and strong[0] != strong[1])


def _said(row: Row) -> Said:
    return Said(here=row.said, adaptive=row.adaptive_verdict)
