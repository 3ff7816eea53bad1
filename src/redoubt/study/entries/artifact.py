"""What drawing a table or figure is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, SerializeAsAny, model_validator

from redoubt import registry
from redoubt.records import Share, Strict
from redoubt.study.entries.base import Entry

Plot = TypeVar("Plot", bound=Strict)
"""The parameters of a plot."""


class Verdict(Strict):
    """Tolerances of the verdict `reproduced`, fixed before results are seen."""

    rate: Share = Field(0.01, description="for rates (accuracy): absolute, 0.01 is one point")
    mean: Share = Field(0.10, description="for means (rho): relative to the published value")


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
    models: dict[str, Shown]
    inputs: list[Input]

    @model_validator(mode="before")
    @classmethod
    def _typed_parameters(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(given := value.get("parameters"), Mapping) and "plot" in value:
            return value | {"parameters": registry.parameters("artifacts", value["plot"], dict(given))}
        return value
