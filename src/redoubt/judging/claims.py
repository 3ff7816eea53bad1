"""Claims of a paper, decided by generic checks over the CSV files of its artifacts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from redoubt.errors import RedoubtError

RELATIONS = {
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
}


class NotRun(Exception):
    """A number that a check needs does not exist; the message is the reason."""


@dataclass(frozen=True)
class Outcome:
    """One check: whether it passed, or None when it could not be run, and the numbers behind it."""

    passed: bool | None
    evidence: str


class Numbers:
    """The CSV files of one study's artifacts.

    Args:
        folder: where they lie.
        published: read the printed numbers in place of the reproduced ones.
    """

    def __init__(self, folder: Path, published: bool = False) -> None:
        self.folder, self.published = folder, published
        self._frames: dict[str, pd.DataFrame] = {}

    def frame(self, artifact: str) -> pd.DataFrame:
        """Return an artifact's CSV."""
        if artifact not in self._frames:
            try:
                self._frames[artifact] = pd.read_csv(self.folder / f"{artifact}.csv")
            except FileNotFoundError:
                raise NotRun(f"{artifact} has not been drawn") from None
            except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
                raise RedoubtError(f"{self.folder / artifact}.csv: not readable ({error}); draw it again") from None
        return self._frames[artifact]

    def rows(self, artifact: str, where: dict[str, Any]) -> pd.DataFrame:
        """Return the rows whose columns have the given values."""
        frame = self.frame(artifact)
        for column, value in where.items():
            if column not in frame:
                raise RedoubtError(f"{artifact}.csv has no column {column!r} that a claim asks for")
            frame = frame[frame[column] == value]
        return frame

    def number(self, operand: Any) -> float:
        """Return the number of an operand; the mean where several seeds match.

        Raises:
            NotRun: there is no number; the message is the reason that the CSV gives.
        """
        if not isinstance(operand, dict):
            return float(operand)
        artifact, where, column = operand["artifact"], operand["where"], operand["column"]
        rows = self.rows(artifact, where)
        if self.published:
            if column != "reproduced":
                raise NotRun("the paper prints no number")
            column = "published"
        values = rows[column].dropna() if column in rows else rows.iloc[:0]
        if not len(values):
            raise NotRun(self._reason(artifact, where, rows))
        return float(values.mean())

    def _reason(self, artifact: str, where: dict[str, Any], rows: pd.DataFrame) -> str:
        reasons = rows["reason"].dropna() if "reason" in rows else rows.iloc[:0]
        if not len(reasons) and "model" in where:  # a history that was not run has one row, without epochs
            found = self.rows(artifact, {"model": where["model"]})
            reasons = found["reason"].dropna() if "reason" in found else reasons
        if len(reasons):
            return str(reasons.iloc[0])
        return f"{artifact} has no number where {', '.join(f'{key} = {value}' for key, value in where.items())}"


def _name(operand: Any) -> str:
    if not isinstance(operand, dict):
        return f"{operand:g}"
    column = "" if operand["column"] == "reproduced" else f" {operand['column']}"
    return " ".join(str(value) for value in operand["where"].values()) + column


def compare(check: dict[str, Any], numbers: Numbers) -> Outcome:
    """Check that one number stands in a relation to another."""
    left, right = numbers.number(check["left"]), numbers.number(check["right"])
    factor, offset = check["factor"], check["offset"]
    passed = RELATIONS[check["relation"]](left, factor * right + offset)
    times = "" if factor == 1 else f"{factor:g} x "
    plus = "" if offset == 0 else f" + {offset:g}"
    text = f"{_name(check['left'])} {left:.4g} {check['relation']} {times}{_name(check['right'])} {right:.4g}{plus}"
    return Outcome(passed, text)


def best(check: dict[str, Any], numbers: Numbers) -> Outcome:
    """Check that a model takes its place in every column among some models."""
    wrong = []
    for column in check["columns"]:

        def value(model: str, column: str = column) -> float:
            where = {"row": model, "column": column}
            return numbers.number({"artifact": check["artifact"], "where": where, "column": "reproduced"})

        own = value(check["model"])
        place = 1 + sum(value(model) > own for model in check["among"] if model != check["model"])
        if place != check["rank"]:
            wrong.append(f"place {place} in {column} ({own:.4g})")
    text = f"{check['model']} place {check['rank']} of {len(check['among'])}"
    return Outcome(not wrong, text + (": " + ", ".join(wrong) if wrong else f" in all {len(check['columns'])} columns"))


def trend(check: dict[str, Any], numbers: Numbers) -> Outcome:
    """Check the rank correlation of two columns (Spearman)."""
    rows = numbers.rows(check["artifact"], check["where"])
    if numbers.published:
        raise NotRun("the paper prints no numbers")
    for column in (check["x"], check["y"]):
        if column not in rows:
            raise RedoubtError(f"{check['artifact']}.csv has no column {column!r} that a claim asks for")
    points = rows[[check["x"], check["y"]]].dropna()
    if len(points) < 3:
        reasons = rows["reason"].dropna().tolist() if "reason" in rows else []
        raise NotRun(str(reasons[0]) if reasons else f"{check['artifact']}: fewer than three points")
    found = float(spearmanr(points[check["x"]], points[check["y"]]).statistic)
    found = 0.0 if math.isnan(found) else found
    strength = check["strength"]
    passed = {"rising": found >= strength, "falling": found <= -strength, "flat": abs(found) <= strength}[check["sign"]]
    where = " ".join(str(value) for value in check["where"].values())
    return Outcome(passed, f"{where}: {check['y']} over {check['x']} {check['sign']}, rank correlation {found:.2f}")


def consistent(check: dict[str, Any], numbers: Numbers) -> Outcome:
    """Check that a ratio is above its threshold exactly when a value is above its level."""
    first, second = (numbers.number(operand) for operand in check["ratio"])
    value = numbers.number(check["value"])
    ratio, level = first / second, check["level"]
    near = abs(value - level) <= check["slack"]
    passed = near or (ratio > check["threshold"]) == (value > level)
    return Outcome(passed, f"{_name(check['value'])} {value:.4g} at ratio {ratio:.3f} against {check['threshold']:g}")


CHECKS = {"compare": compare, "best": best, "trend": trend, "consistent": consistent}


def decide(claim: dict[str, Any], numbers: Numbers) -> tuple[str, str]:
    """Return the verdict on a claim (`holds`, `fails`, `not-run`) and its evidence.

    A claim holds when all checks that could be run passed and none failed; it is not run when one could not be run and
    none failed.
    """
    outcomes = []
    for check in claim["checks"]:
        try:
            outcomes.append(CHECKS[check["check"]](check, numbers))
        except NotRun as reason:
            outcomes.append(Outcome(None, str(reason)))
    failed = [outcome.evidence for outcome in outcomes if outcome.passed is False]
    waiting = list(dict.fromkeys(outcome.evidence for outcome in outcomes if outcome.passed is None))
    passed = [outcome.evidence for outcome in outcomes if outcome.passed]
    parts = [f"{len(passed)} of {len(outcomes)} checks passed"]
    parts += [f"failed: {'; '.join(failed)}"] if failed else []
    parts += [f"not run: {'; '.join(waiting)}"] if waiting else []
    parts += [f"passed: {'; '.join(passed[:4])}{' …' if len(passed) > 4 else ''}"] if passed else []
    return ("fails" if failed else "not-run" if waiting else "holds"), ". ".join(parts)
