"""What a number of the report is made of: the entries, code, data and jobs behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from redoubt.graph.jobs import Jobs
from redoubt.judging.cells import COLUMNS, Cell
from redoubt.judging.results import made_of, provenance
from redoubt.layout import changes_file, study_file
from redoubt.report import curves, rows
from redoubt.study.catalog import Catalog
from redoubt.study.files import matches

FACTS = {  # what a panel says of a cell, in this order
    "published": "printed",
    "reproduced": "reproduced",
    "interval": "95 % interval",
    "over": "interval over",
    "n": "images",
    "seeds": "training runs",
    "difference": "difference",
    "margin": "margin",
    "adaptive": "under strong attacks",
    "adaptive_interval": "its interval",
    "adaptive_by": "decided by",
    "queries": "queries an image",
    "optimality": "optimality of the paper's attack",
    "adaptive_reason": "no strong attack",
    "not_counted": "not counted",
    "reason": "reason",
}


def origins(jobs: Jobs) -> dict[str, Any]:
    """Return what the numbers of all tables are made of, as JSON data.

    Returns:
        cells: by study, artifact, row and column the model, the attack (none: what was timed) and the strong attack,
        both with the values of their sweeps, and the curves of figures that it is a point of; models and attacks: by id
        the entry, the file that it stands in, and why the scale changes it; runs: by "model/attack" the code's version
        and the files of rows, by model those of training.
    """
    catalog = jobs.catalog
    drawn = curves.curves(catalog)
    cells = {"/".join(key): _cells(catalog, *key, drawn.get(key, {})) for key in catalog.artifacts}
    needed = [cell for own in cells.values() for cell in own.values()]
    attacks = [cell[name] for cell in needed for name in ("attack", "strong") if cell[name]]
    return {
        "cells": cells,
        "models": {key: _model(catalog, key) for key in dict.fromkeys(cell["model"] for cell in needed)},
        "attacks": {key: _attack(catalog, key) for key in dict.fromkeys(attacks)},
        "runs": _runs(jobs),
    }


def _cells(catalog: Catalog, study: str, artifact: str, drawn: curves.Curves) -> dict[str, Any]:
    numbers = made_of(catalog, study, artifact)
    return {"/".join(key): {**own._asdict(), "curves": drawn.get(key, [])} for key, own in numbers.items()}


def _model(catalog: Catalog, key: str) -> dict[str, Any]:
    model = catalog.models[key]
    return {
        "entry": model.entry.dump(),
        "file": study_file(model.study, "models"),
        "seeds": list(model.seeds),
        "changed": _changed(catalog, model.study, key, "models"),
    }


def _attack(catalog: Catalog, key: str) -> dict[str, Any]:
    owner = next((name for name, study in catalog.studies.items() if key in study.attacks), None)
    return {
        "entry": catalog.attacks[key].dump(),
        "file": study_file(owner, "attacks") if owner else "config/suites.yaml",
        "changed": _changed(catalog, owner, key, "attacks") if owner else [],
    }


def _changed(catalog: Catalog, study: str, key: str, kind: str) -> list[dict[str, Any]]:
    """Return the changes that the scale makes of an entry: what is set, why, and where it says so."""
    own = [override for override in catalog.changes[study].overrides if matches(key, getattr(override, kind))]
    file = changes_file(catalog.config.scale, study)
    return [{"set": override.set, "why": override.why, "file": file} for override in own]


def _runs(jobs: Jobs) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for job in jobs:
        if job.model is not None:
            key = f"{job.model}/{job.attack}" if job.attack else job.model
            run = found.setdefault(key, {"code": job.version, "jobs": [], "files": []})
            run["jobs"].append(job.name)
            run["files"].append(job.outputs[0])
    return found


# -- what the results say ---------------------------------------------------------------------------------------------


def seconds(folder: Path, made: Iterable[str]) -> dict[str, float]:
    """Return the wall seconds of jobs by their names, from Snakemake's benchmark files below `folder`."""
    files = {name: folder / f"{name}.tsv" for name in made}
    found = {name: path.read_text(encoding="utf-8").splitlines() for name, path in files.items() if path.is_file()}
    return {name: float(lines[-1].split("\t")[0]) for name, lines in found.items() if len(lines) > 1}


def trained(results: Path, model: str, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Return digests of data and weights, versions and device of the runs of a model, those that are there."""
    facts = filter(None, (provenance(results, model, seed) for seed in seeds))
    return [{key: fact.get(key) for key in ("seed", "data", "sha256", "versions", "device")} for fact in facts]


def panels(
    cells: Sequence[Cell], views: Sequence[dict[str, Any]], behind: Mapping[str, Any], results: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the page tells of a cell that is clicked, as JSON data, and rows; entries and runs are told once.

    Args:
        cells: of the scorecard.
        views: what the page shows of them.
        behind: what `origins` returns.
        results: folder of the scale's results.
    """
    told: dict[str, dict[str, Any]] = {}
    runs: dict[str, Any] = {}
    for cell, view in zip(cells, views, strict=True):
        origin = behind.get("cells", {}).get(f"{cell.study}/{cell.artifact}", {}).get(f"{cell.row}/{cell.column}")
        facts = [[label, view[name]["text"]] for name, label in FACTS.items() if view[name]["text"] not in ("", "—")]
        told[view["anchor"]] = {
            "name": [view[name]["text"] for name in ("study", "artifact", "row", "column", "metric", "verdict")],
            "facts": facts,
            "values": ["" if value is None else str(value) for value in cell.model_dump().values()],
            "origin": origin,
        }
        for attack in (origin["attack"], origin["strong"]) if origin else ():
            for key in (origin["model"], f"{origin['model']}/{attack}"):
                runs |= {key: behind["runs"][key]} if key in behind["runs"] else {}
    models = {
        key: {**model, "trained": trained(results, key, model["seeds"])}
        for key, model in behind.get("models", {}).items()
    }
    wanted = rows.asked(cell["origin"] for cell in told.values() if cell["origin"])
    kept, left_out = rows.held(wanted, runs, results, rows.MAX_ROWS)
    entries = {"models": models, "attacks": behind.get("attacks", {}), "runs": runs}
    return {"columns": COLUMNS, "cells": told, "digits": rows.DIGITS, "left_out": left_out} | entries, kept
