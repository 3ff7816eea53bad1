"""Write down what every checkpoint, attack and artifact is made from, for DVC: one small file for each.

Reads config and source files; writes `results/<scale>/plan/`. A file holds the entries of its item and of
all that lies upstream at this scale, and the digests of their code, so it changes exactly when its item is
to be made anew.
With --targets it writes `config/dvc-targets.yaml` instead: the mappings that `dvc.yaml` walks over.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from redoubt import registry
from redoubt.errors import RedoubtError, cli
from redoubt.files import canonical_json, entry_digest, write_text
from redoubt.layout import published_file
from redoubt.study import catalog as catalogs
from redoubt.study.catalog import Catalog
from redoubt.study.needs import Need

TARGETS = "config/dvc-targets.yaml"
_HEADER = "# What dvc.yaml walks over.\n# Written by `make format`.\n"


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"


def _parts(catalog: Catalog, needs: Iterable[Need]) -> dict[str, Any]:
    """Return entries and code of some models and runs, and of all that they are made from."""
    models: dict[str, Any] = {}
    attacks: dict[str, Any] = {}
    code: set[str] = set()
    todo = list(needs)
    while todo:
        need = todo.pop()
        name = f"{need.model}/{need.attack}"
        if need.attack is None and need.model not in models:
            model = catalog.models[need.model]
            models[need.model] = {"entry": model.entry, "seeds": model.seeds}
            code.update(catalog.model_code(need.model), catalog.code("steps.download"))
            todo += [Need(model.start)] if model.start else []
        elif need.attack is not None and name not in attacks:
            run = catalog.runs[need.model, need.attack]
            attacks[name] = {"entry": catalog.attacks[need.attack], "reads": run.reads}
            code.update(catalog.attack_code(need.model, need.attack))
            todo += [Need(need.model), *(Need(model, attack) for model, attack in run.reads)]
    return {"models": models, "attacks": attacks, "code": code}


def _dated(catalog: Catalog, parts: dict[str, Any], files: Iterable[str] = ()) -> dict[str, Any]:
    """Return `parts` with the digest of each of its code files, and of some other `files`."""
    digests = {file: _digest(catalog.root / file) for file in sorted({*parts["code"], *files})}
    return {**parts, "code": digests}


def plans(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """Return the content of every plan file, by its path below `results/<scale>/plan`."""
    result: dict[str, dict[str, Any]] = {}
    for model in catalog.models:
        result[f"models/{model}.json"] = _dated(catalog, _parts(catalog, [Need(model)]))
    for model, attack in catalog.runs:
        result[f"attacks/{model}/{attack}.json"] = _dated(catalog, _parts(catalog, [Need(model, attack)]))
    for study, key in catalog.artifacts:
        parts = _parts(catalog, [need for need in catalog.needs(study, key) if catalog.missing(need) is None])
        parts["code"].update(catalog.artifact_code(study, key))
        parts["entry"] = catalog.artifact_entry(study, key)
        name = f"artifacts/{study}-{key}.json"
        result[name] = _dated(catalog, parts, [published_file(study)])
    artifacts = {name: entry_digest(plan) for name, plan in result.items() if name.startswith("artifacts/")}
    made = {"artifacts": artifacts, "entry": catalog.claims_hash(), "code": catalog.code("steps.scorecard")}
    result["scorecard.json"] = _dated(catalog, made)
    made = {"artifacts": artifacts, "entry": catalog.report_entry(), "code": catalog.report_code()}
    result["report.json"] = _dated(catalog, made, catalog.report_files)
    return result


def write(catalog: Catalog) -> None:
    """Write the plan files that differ from what is there, and remove those of items that are gone."""
    folder = catalog.root / "results" / catalog.config.scale / "plan"
    texts = {folder / name: canonical_json(plan) + "\n" for name, plan in plans(catalog).items()}
    for path in folder.rglob("*.json"):
        if path not in texts:
            path.unlink()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)


def fetched_unseen(catalog: Catalog) -> bool:
    """Tell whether results lie here of which Snakemake has no record, as after a bare `dvc pull`.

    Snakemake would take them for results of whatever the config now says.
    """
    results = catalog.root / "results" / catalog.config.scale
    found = any(path.is_file() for kind in ("models", "attacks") for path in (results / kind).rglob("*"))
    return found and not any((catalog.root / ".snakemake/metadata").glob("*"))


def targets(catalog: Catalog) -> dict[str, dict[str, dict[str, str]]]:
    """Return the mappings that `dvc.yaml` walks over.

    `given` names a key of the entry that may be absent (DVC asks for every key it is told of) or, where it
    is, a key that is always there; `file` is the file of a defense, whose name in the config may hold hyphens.
    `models` are those with a start, `scratch` the other defended ones.
    """
    kinds = ("baselines", "models", "scratch", "rows", "tables", "figures")
    result: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for name, study in catalog.studies.items():
        for key, raw in study.baselines.items():
            given = "preprocessing" if "preprocessing" in raw.model_fields_set else "network"
            result["baselines"][key] = {"given": given, "study": name}
        for key, raw in study.models.items():
            given = "parameters" if "parameters" in raw.model_fields_set else "defense"
            item = {
                "file": registry.module_name("defenses", raw.defense).rpartition(".")[2],
                "given": given,
                "study": name,
            }
            result["models" if raw.start else "scratch"][key] = item | ({"start": raw.start} if raw.start else {})
    for model, attack in catalog.runs:
        result["rows"][f"{model}-{attack}"] = {"model": model, "attack": attack}
    for (study, key), raw in catalog.artifacts.items():
        result[f"{raw.kind}s"][f"{study}-{key}"] = {"study": study, "artifact": key}
    return result


def targets_text(catalog: Catalog) -> str:
    """Return `config/dvc-targets.yaml` as it should be."""
    lines = [_HEADER]
    for kind, items in targets(catalog).items():
        lines.append(f"{kind}:" if items else f"{kind}: {{}}")
        lines += [
            f"  {key}: {yaml.safe_dump(item, default_flow_style=True, width=1000).strip()}"
            for key, item in items.items()
        ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", help="scale of the plan; that of config/config.yaml when absent")
    parser.add_argument("--targets", action="store_true", help=f"write {TARGETS} and nothing else")
    options = parser.parse_args(argv)
    catalog = catalogs.load(".", {"scale": options.scale} if options.scale else None)
    if options.targets:
        write_text(TARGETS, targets_text(catalog))
    elif fetched_unseen(catalog):
        raise RedoubtError(
            f"results/{catalog.config.scale} was fetched, but Snakemake does not know what it was made from; "
            f"run `make restore SCALE={catalog.config.scale}` first"
        )
    else:
        write(catalog)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
