"""A finished run as one document: `results.json`, whose schema is workflow/schemas/results.schema.json.

It holds what scorecard.csv, claims.csv and tables of gates say, and where the numbers come from: the digests of models,
attacks and artifacts. A `null` is what is not known, or was not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from redoubt import registry
from redoubt.files import entry_digest, file_digest, read_json
from redoubt.judging.cells import Cell
from redoubt.judging.decided import Row
from redoubt.judging.gates import Gate
from redoubt.judging.tables import read_records
from redoubt.layout import model_file
from redoubt.records import Strict
from redoubt.study.catalog import Catalog

GATES = "gates"
"""The plot whose tables hold gates."""


class Traced(Cell):
    """A number in three columns: `published`, `reproduced` and `adaptive`; rates are fractions of 1."""

    model: str | None = Field(None, description="whose rows are behind the number; a key of `models`")
    attack: str | None = Field(None, description="by which they were made; a key of `attacks`")
    where: dict[str, float | str] = Field({}, description="which of its rows, by their columns, such as epsilon")
    adaptive_attack: str | None = Field(None, description="the worst of several, behind the number in `adaptive`")
    run_seeds: list[int] = Field([], description="of the training runs that are declared")


class Checked(Gate):
    """One gate of one model: what must hold of attacks before an accuracy under them can be believed."""

    artifact: str = Field("", description="id of the table that it is in")
    model: str
    label: str
    check: str


class Trained(Strict):
    """One training run of a model."""

    seed: int
    weights: str | None = Field(description="SHA-256 of its tensors; null where it was not trained")
    data: dict[str, str] = Field({}, description="SHA-256 of the tensors of each part of its dataset")
    versions: dict[str, str] = Field({}, description="of Python and torch")
    device: str | None = None


class ModelFacts(Strict):
    """Where a model comes from."""

    entry: str = Field(description="digest of its resolved entry: what decides it beside code, data and start")
    dataset: str
    network: str
    defense: str
    labels: dict[str, str] = Field(description="what tables call it")
    start: str | None = Field(description="the model that it starts from")
    runs: list[Trained]
    missing: str | None = Field(description="why it cannot be made here")


class AttackFacts(Strict):
    """Where an attack's rows come from."""

    entry: str = Field(description="digest of its resolved entry")
    method: str = Field(description="name of an attack or a probe")
    engine: str
    space: str = Field(description="in whose units its sizes are: pixels in [0, 1], or what the network is given")
    threat: str = Field(description="threat model, as docs/attacks.md has it; empty for a probe")
    parameters: dict[str, Any] = Field(description="all of them, defaults too")


class ArtifactFacts(Strict):
    """A table or figure."""

    kind: Literal["table", "figure"]
    plot: str
    title: str
    entry: str = Field(description="digest of its resolved entry")
    sha256: str | None = Field(description="of its CSV file; null where it is not drawn")


class Deviates(Strict):
    """A place where the paper is silent, ambiguous or not followed."""

    topic: str
    choice: str
    alternatives: str


class StudyResults(Strict):
    """One paper."""

    title: str
    reference: str
    titles: dict[str, str] = Field(description="of claims, in a few words")
    cells: list[Traced]
    claims: list[Row] = Field(
        description="`dataset` is `all` and `check` empty in the row of a whole claim. Three verdicts: of the printed "
        "numbers, of ours (`here`; `verdict` where they may be held against the paper's), and under strong attacks"
    )
    gates: list[Checked]
    deviations: list[Deviates]
    artifacts: dict[str, ArtifactFacts]
    models: dict[str, ModelFacts]
    attacks: dict[str, AttackFacts]


class Results(Strict):
    """`results.json`: printed, reproduced and adaptive numbers of a run, its claims and gates, and their provenance."""

    format: Literal["redoubt-results-1"] = "redoubt-results-1"
    scale: str
    stamp: str
    comparable: bool = Field(description="whether the scale's numbers may be held against the papers'")
    config: str = Field(description="digest of all models and attacks, as provenance.json of a kept run has it")
    studies: dict[str, StudyResults]


def config_digest(found: Catalog) -> str:
    """Return the digest of all models and attacks."""
    return entry_digest([{key: model.entry for key, model in found.models.items()}, found.attacks])


def results(found: Catalog, folder: Path, cells: list[Cell], claims: list[Row]) -> Results:
    """Return a run as one document.

    Args:
        found: all that exists at its scale.
        folder: of the scale's results; models and artifacts that are not there are left without digests.
        cells: of all tables.
        claims: rows of all claims.

    Raises:
        RedoubtError: a file of the run is broken.
    """
    studies = {}
    for name, study in found.studies.items():
        own = [key for place, key in found.artifacts if place == name]
        needs = [need for key in own for need in found.needs(name, key)]
        studies[name] = StudyResults(
            title=study.title,
            reference=study.reference,
            titles={key: claim.title for key, claim in study.claims.items() if claim.title},
            cells=_traced(found, name, [cell for cell in cells if cell.study == name]),
            claims=[row for row in claims if row.study == name],
            gates=[
                gate for key in own if found.artifacts[name, key].plot == GATES for gate in gates(folder, name, key)
            ],
            deviations=[Deviates(**each.model_dump(exclude={"cells"})) for each in study.deviations],
            artifacts={key: _artifact(found, folder, name, key) for key in own},
            models={key: _model(found, folder, key) for key in dict.fromkeys(need.model for need in needs)},
            attacks={key: _attack(found, key) for key in dict.fromkeys(need.attack for need in needs) if key},
        )
    scale = {"scale": found.config.scale, "stamp": found.scale.stamp, "comparable": found.scale.comparable}
    return Results(**scale, config=config_digest(found), studies=studies)


def gates(folder: Path, study: str, artifact: str) -> list[Checked]:
    """Return the rows of a table of gates, none where it is not drawn."""
    path = folder / study / f"{artifact}.csv"
    rows = read_records(path, Checked) if path.is_file() else []
    return [row.model_copy(update={"artifact": artifact}) for row in rows]


class Behind(NamedTuple):
    """What a number of a table is made of; without an attack it is what was timed."""

    model: str
    attack: str | None
    where: dict[str, Any]  # which of the attack's rows, by their columns
    strong: str | None  # the worst of several, by which it is answered
    strong_where: dict[str, Any]


def made_of(found: Catalog, study: str, artifact: str) -> dict[tuple[str, str], Behind]:
    """Return what the numbers of a table are made of, by row and column; nothing for a plot without cells."""
    strong = {(each.row, each.column): (each.attack, each.where) for each in found.answers(study, artifact)}
    numbers = {
        (each.cell["row"], each.cell["column"]): each
        for each in found.artifacts[study, artifact].asked("samples")
        if {"row", "column"} <= each.cell.keys()
    }
    return {key: Behind(own.model, own.attack, own.where, *strong.get(key, (None, {}))) for key, own in numbers.items()}


def provenance(folder: Path, model: str, seed: int) -> dict[str, Any] | None:
    """Return model.json of a training run in a scale's folder of results; None where it is not there."""
    path = folder.joinpath(*Path(model_file(folder.name, model, seed, "model.json")).parts[2:])
    return read_json(path) if path.is_file() else None


def _traced(found: Catalog, study: str, cells: list[Cell]) -> list[Traced]:
    made = {key: made_of(found, study, key) for key in dict.fromkeys(cell.artifact for cell in cells)}
    result = []
    for cell in cells:
        facts: dict[str, Any] = {}
        if (own := made[cell.artifact].get((cell.row, cell.column))) is not None:
            facts = {"model": own.model, "attack": own.attack, "where": own.where, "adaptive_attack": own.strong}
            facts["run_seeds"] = list(found.models[own.model].seeds)
        result.append(Traced(**cell.model_dump(), **facts))
    return result


def _artifact(found: Catalog, folder: Path, study: str, key: str) -> ArtifactFacts:
    raw, path = found.artifacts[study, key], folder / study / f"{key}.csv"
    return ArtifactFacts(
        kind=raw.kind,
        plot=raw.plot,
        title=raw.title,
        entry=entry_digest(found.artifact_entry(study, key)),
        sha256=file_digest(path) if path.is_file() else None,
    )


def _model(found: Catalog, folder: Path, key: str) -> ModelFacts:
    model = found.models[key]
    return ModelFacts(
        entry=entry_digest(model.entry),
        dataset=model.dataset,
        network=model.entry.network.name,
        defense=model.entry.defense.name,
        labels=model.labels,
        start=model.start,
        runs=[_trained(folder, key, seed) for seed in model.seeds],
        missing=model.missing,
    )


def _trained(folder: Path, key: str, seed: int) -> Trained:
    if (facts := provenance(folder, key, seed)) is None:
        return Trained(seed=seed, weights=None)
    about = {"data": facts["data"]["sha256"], "versions": facts["versions"], "device": facts["device"]}
    return Trained(seed=seed, weights=facts["sha256"], **about)


def _attack(found: Catalog, key: str) -> AttackFacts:
    entry = found.attacks[key]
    kind, name = entry.method
    return AttackFacts(
        entry=entry_digest(entry),
        method=name,
        engine=entry.engine,
        space=entry.space,
        threat=getattr(registry.method(kind, name), "THREAT", "") if kind == "attacks" else "",
        parameters=registry.parameters(kind, name, entry.parameters).model_dump(mode="json", by_alias=True),
    )
