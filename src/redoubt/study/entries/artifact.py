"""What drawing a table or figure is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from redoubt import registry
from redoubt.records import Share, Strict
from redoubt.study.entries.base import Entry
from redoubt.study.entries.model import Defense


class Verdict(Strict):
    """Tolerances of the verdict `reproduced`, fixed before results are seen."""

    rate: Share = Field(0.01, description="for rates (accuracy): absolute, 0.01 is one point")
    mean: Share = Field(0.10, description="for means (rho): relative to the published value")


class Shown(Strict):
    """What tables and legends say of a model."""

    labels: dict[str, str]
    dataset: str
    defense: Defense
    start: str | None = None


class Input(Strict):
    """The files of one model's history (attack null) or of its rows under an attack, one for each seed."""

    model: str
    attack: str | None = None
    missing: str | None = Field(None, description="why they cannot be made here")
    files: list[str]


class ArtifactEntry(Entry):
    """What drawing a table or figure reads."""

    study: str
    id: str
    scale: str
    kind: Literal["table", "figure"]
    plot: str
    title: str
    caption: str
    parameters: SerializeAsAny[Strict]
    """Those of the plot: an instance of `Parameters` of its module."""
    published: str
    """File of the study's printed numbers."""
    stamp: str
    comparable: bool
    verdict: Verdict = Verdict()
    models: dict[str, Shown]
    inputs: list[Input]

    @classmethod
    def parse(cls, value: Any, what: str = "--entry") -> Self:
        """Return JSON data as a record; models then have all parameters of their defenses, defaults too."""
        entry = super().parse(value, what)
        models = {}
        for key, shown in entry.models.items():
            options = registry.parameters("defenses", shown.defense.name, shown.defense.parameters)
            whole = shown.defense.model_copy(update={"parameters": options.model_dump(by_alias=True)})
            models[key] = shown.model_copy(update={"defense": whole})
        return entry.model_copy(update={"models": models})

    @model_validator(mode="before")
    @classmethod
    def _typed_parameters(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(given := value.get("parameters"), Mapping) and "plot" in value:
            return value | {"parameters": registry.parameters("artifacts", value["plot"], dict(given))}
        return value
