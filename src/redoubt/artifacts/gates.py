"""A table of gates: what must hold of attacks on a model before its accuracy under them can be believed.

Source: see `redoubt.judging.gates`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from redoubt.artifacts._markdown import called, table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.judging import gates
from redoubt.lazily import pd
from redoubt.records import Strict
from redoubt.rows import picked
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need

KIND = "table"
COLUMNS = ["model", "label", "check", *gates.Gate.model_fields]


class Beside(Strict):
    """Rows of another attack within the probe's ball, on some of the models."""

    attack: str
    models: list[str]
    where: dict[str, float | str] = {}


class Parameters(Strict):
    """Which models are checked, by which probe."""

    models: list[str]
    probe: str = Field(description="an attack of the study whose kind is `probe: gates`, run on each of the models")
    beside: list[Beside] = Field(
        [],
        description="attacks that may not find more than the probe, and whose clean "
        "accuracy is that of the probe: black boxes, transfer, the paper's own",
    )
    show: list[str] = Field(["network", "method"], description="labels by which a model is called")


def needs(parameters: Parameters) -> list[Need]:
    """Return the probe's rows, and those of other attacks."""
    own = [Need(model, parameters.probe) for model in parameters.models]
    return own + [Need(model, other.attack) for other in parameters.beside for model in other.models]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    return [
        dict.fromkeys(COLUMNS, ANY) | {"model": model, "check": check}
        for model in parameters.models
        for check in gates.CHECKS
    ]


def judged(model: str, parameters: Parameters, inputs: Inputs) -> dict[str, gates.Gate]:
    """Return the gates of a model by check."""
    if (reason := inputs.missing(model, parameters.probe)) is not None:
        return dict.fromkeys(gates.CHECKS, gates.not_run(reason))
    rows = inputs.rows(model, parameters.probe)
    others = [
        picked(inputs.rows(model, other.attack), other.where)
        for other in parameters.beside
        if model in other.models and inputs.missing(model, other.attack) is None
    ]
    return gates.judged(rows, others)


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Return one row for each model and check, and the table as Markdown."""
    rows, lines = [], []
    for model in entry.parameters.models:
        name = ", ".join(filter(None, called(entry, model, entry.parameters.show)))
        for check, gate in judged(model, entry.parameters, inputs).items():
            rows.append({"model": model, "label": name, "check": check} | gate.model_dump())
            lines.append([name, check, f"**{gate.gate}**" if gate.gate == "red" else gate.gate, *gate.numbers()])
    header = ["model", "check", "gate", "found", "allowed", "n"]
    return Drawing(pd.DataFrame(rows, columns=COLUMNS), text=table(entry, header, lines))
