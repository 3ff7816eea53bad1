"""What drawing a table or figure is given."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, SerializeAsAny, model_validator

from redoubt import registry
from redoubt.records import Share, Strict
from redoubt.study.entries.base import Entry

Plot = TypeVar("Plot", bound=Strict)
"""The parameters of a plot."""


class Verdict(Strict):
    """The most that the verdict `reproduced` allows, fixed before results are seen; see redoubt.judging.margins."""

    rate: Share = Field(0.01, description="for rates (accuracy): absolute, 0.01 is one point")
    mean: Share = Field(0.10, description="for means (rho): relative to the published value")


class Look(Strict):
    """How figures draw a method."""

    color: Annotated[str, Field(pattern="^#[0-9A-Fa-f]{6}$", description="such as #0072B2")]
    marker: Literal["o", "s", "^", "D", "v", "P"] = Field(description="as matplotlib names it")
    line: Literal["-", "--", "-.", ":", "- .", ". ."] = Field(description="its dashes and dots")


class Shown(Strict):
    """What tables and legends say of a model."""

    labels: dict[str, str]
    dataset: str
    parameters: dict[str, Any] = Field({}, description="of its defense, those that the plot shows")
    start: str | None = None
    settings: dict[str, Any] = Field({}, description="of its entry, by path, those that the plot shows")


class Input(Strict):
    """The files of one model's history (attack null) or of its rows under an attack, one for each seed."""

    model: str
    attack: str | None = None
    missing: str | None = Field(None, description="why they cannot be made here")
    files: list[str]


class Declared(Strict):
    """Cells that a declared change concerns: rows and columns by patterns with *, and what the ledger calls it."""

    topic: str
    row: str = "*"
    column: str = "*"


class Answered(Strict):
    """A cell of a table, or a line of a figure, that strong attacks answer: by whose rows, and where in their sweep.

    Of a line `row` is its model, and `column` its panel and measure.
    """

    row: str
    column: str
    attack: str
    where: dict[str, float] = {}


class ArtifactEntry(Entry, Generic[Plot]):
    """What drawing a table or figure reads."""

    study: str
    id: str
    scale: str
    kind: Literal["table", "figure"]
    plot: str
    title: str
    caption: str
    parameters: SerializeAsAny[Plot]
    """Those of the plot: an instance of `Parameters` of its module."""
    published: str
    """File of the study's printed numbers."""
    stamp: str
    comparable: bool
    verdict: Verdict = Verdict()
    declared: list[Declared] = []
    """Changes that the study's ledger declares for cells of this table."""
    models: dict[str, Shown]
    looks: dict[str, Look] = {}
    """Of the methods that a figure shows; none of those that take a look by themselves."""
    inputs: list[Input]
    adaptive: list[Answered] = []
    """Cells of this table, or lines of this figure, that strong attacks answer."""

    def answered(self, row: str, column: str) -> Answered | None:
        """Return which strong attacks answer a cell, None where none do."""
        return next((each for each in self.adaptive if (each.row, each.column) == (row, column)), None)

    def declared_of(self, row: str, column: str) -> list[str]:
        """Return what the ledger calls the declared changes of a cell."""
        fitting = (each for each in self.declared if fnmatchcase(row, each.row) and fnmatchcase(column, each.column))
        return list(dict.fromkeys(each.topic for each in fitting))

    @model_validator(mode="before")
    @classmethod
    def _typed_parameters(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(given := value.get("parameters"), Mapping) and "plot" in value:
            return value | {"parameters": registry.parameters("artifacts", value["plot"], dict(given))}
        return value
