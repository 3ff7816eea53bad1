"""A table of checks, each passed or failed: numbers that must reach a level, or rise from the first to the last.

Source: PeerNets, section 4.3 (gradient obfuscation), after Athalye, Carlini and Wagner (ICML 2018), section 3.1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from redoubt.artifacts._markdown import table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.judging.cells import FOUND, measured, shown
from redoubt.lazily import pd
from redoubt.metrics.interface import Named
from redoubt.records import Share, Strict
from redoubt.rows import picked
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need, Sampled

KIND = "table"
COLUMNS = ["check", "relation", "place", "label", "model", "attack", "metric", *FOUND, "passed"]


class Number(Strict):
    """A metric over the rows of an attack."""

    label: str
    model: str
    attack: str
    metric: Named
    where: dict[str, float | str] = {}


class Check(Strict):
    """Numbers that stand in a relation."""

    title: str
    relation: Literal["reaches", "rises"] = Field(
        description="reaches: every number is at least `level`; rises: no number is below the one before it"
    )
    level: float = Field(1.0, description="for `reaches`")
    slack: Share = Field(0.0, description="by how much a number may fall short")
    numbers: Annotated[list[Number], Field(min_length=1)]


class Parameters(Strict):
    """Checks from top to bottom."""

    checks: list[Check]

    @model_validator(mode="after")
    def _distinct(self) -> Parameters:
        titles = [check.title for check in self.checks]
        if len(set(titles)) < len(titles):
            raise ValueError("give each check a separate title")
        return self


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(number.model, number.attack) for check in parameters.checks for number in check.numbers]


def metrics(parameters: Parameters) -> list[str]:
    """Return the metrics that are computed."""
    return list(dict.fromkeys(number.metric for check in parameters.checks for number in check.numbers))


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    return [
        dict.fromkeys(COLUMNS, ANY)
        | {"check": check.title, "relation": check.relation, "place": place}
        | {key: getattr(number, key) for key in ("label", "model", "attack", "metric")}
        for check in parameters.checks
        for place, number in enumerate(check.numbers, start=1)
    ]


def samples(parameters: Parameters) -> list[Sampled]:
    """Return what every number is made of."""
    return [
        Sampled({"check": check.title, "place": place}, number.model, number.attack, number.metric, dict(number.where))
        for check in parameters.checks
        for place, number in enumerate(check.numbers, start=1)
    ]


def passes(check: Check, values: list[float | None]) -> bool | None:
    """Return whether numbers stand in the relation of a check; None where one of them is missing."""
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    if check.relation == "reaches":
        return all(value >= check.level - check.slack for value in found)
    return all(after >= before - check.slack for before, after in pairwise(found))


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Return one row per number, `passed` being 1 or 0 for its whole check, and the checks as Markdown."""
    rows = []
    for check in entry.parameters.checks:
        numbers: list[dict[str, Any]] = []
        for place, number in enumerate(check.numbers, start=1):
            missing = inputs.missing(number.model, number.attack)
            attacked = None if missing else picked(inputs.rows(number.model, number.attack), number.where)
            facts = {"check": check.title, "relation": check.relation, "place": place}
            facts |= {key: getattr(number, key) for key in ("label", "model", "attack", "metric")}
            numbers.append(facts | measured(number.metric, attacked, missing).model_dump())
        passed = passes(check, [row["reproduced"] for row in numbers])
        rows += [row | {"passed": None if passed is None else int(passed)} for row in numbers]
    data = pd.DataFrame(rows, columns=COLUMNS)
    return Drawing(data, text=markdown(entry, data))


def markdown(entry: ArtifactEntry[Parameters], data: pd.DataFrame) -> str:
    """Return the table as Markdown: a line for each check, its numbers in order."""
    rows = [_cells(check, data[data["check"] == check.title].to_dict("records")) for check in entry.parameters.checks]
    notes = [f"\n- not run: {reason}" for reason in data["reason"].dropna().unique()]
    return table(entry, ["check", "numbers", "passed"], rows, notes)


def _cells(check: Check, numbers: list[dict[str, Any]]) -> list[str]:
    metric, passed = numbers[0]["metric"], numbers[0]["passed"]
    shows = [f"{row['label']} {shown(row['metric'], row['reproduced'])} (n={row['n']})" for row in numbers]
    text = (" ≤ " if check.relation == "rises" else ", ").join(shows)
    level = f" ≥ {shown(metric, check.level)}" if check.relation == "reaches" else ""
    slack = f" (within {shown(metric, check.slack)})" if check.slack else ""
    outcome = "not run" if pd.isna(passed) else "yes" if passed else "**no**"
    return [check.title, f"{text}{level}{slack}", outcome]
