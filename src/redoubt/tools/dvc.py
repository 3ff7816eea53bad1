"""Write down for DVC what every result is made from: one small file for each stage, from the list of jobs.

Reads config and source files; writes `results/<scale>/plan/`. A file holds the entry of its job and, for the job and
all that lies upstream of it, the digest of entry and code, so it changes exactly when its job is to be run again.
With --targets it writes `config/dvc-targets.yaml` instead: the mappings that `dvc.yaml` walks over.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from redoubt.errors import RedoubtError, cli
from redoubt.files import canonical_json, entry_digest, write_text
from redoubt.graph.jobs import Job, Jobs
from redoubt.layout import study_file
from redoubt.study import catalog as catalogs
from redoubt.study.expand import Written, written
from redoubt.study.reading import read_yaml

TARGETS = "config/dvc-targets.yaml"
SHOWN = {"baselines": ("network", "preprocessing", "training"), "models": ("defense", "parameters", "training")}
OTHERWISE = ("like", "start", "module", "weights")
KINDS = ("train", "attack", "table", "figure")
_HEADER = "# What dvc.yaml walks over: one stage for each run.\n# Written by `make format`.\n"


def plans(jobs: Jobs) -> dict[str, dict[str, Any]]:
    """Return the content of the plan file of every stage, by its path below `results/<scale>/plan`."""
    digests = {job.name: entry_digest([job.version, job.entry]) for job in jobs}
    return {
        f"{job.name}.json": {
            "entry": job.entry,
            "made_from": {other.name: digests[other.name] for other in jobs.upstream(job)},
        }
        for job in jobs
        if job.stage is not None
    }


def write(jobs: Jobs) -> None:
    """Write the plan files that differ from what is there, and remove those of jobs that are gone."""
    folder = jobs.catalog.root / "results" / jobs.scale / "plan"
    texts = {folder / name: canonical_json(plan) + "\n" for name, plan in plans(jobs).items()}
    for path in folder.rglob("*.json"):
        if path not in texts:
            path.unlink()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)


def fetched_unseen(jobs: Jobs) -> bool:
    """Return whether there are results here of which Snakemake has no record, as after a bare `dvc pull`.

    Snakemake would take them for results of whatever the config now says.
    """
    root = jobs.catalog.root
    results = root / "results" / jobs.scale
    found = any(path.is_file() for kind in ("models", "attacks") for path in (results / kind).rglob("*"))
    return found and not any((root / ".snakemake/metadata").glob("*"))


def targets(jobs: Jobs) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the mappings that `dvc.yaml` walks over: what names a job, by the part of its stage's name after the @."""
    result: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
    files = _models_as_written(jobs)
    for job in jobs:
        kind, _, key = (job.stage or "").partition("@")
        if key:
            ids = {name: getattr(job, name) for name in ("model", "seed", "attack", "study", "artifact")}
            item = {name: value for name, value in ids.items() if value is not None}
            result[kind][key] = item | (_parameters(jobs, job, files) if kind == "train" else {})
    return result


def _parameters(jobs: Jobs, job: Job, files: Mapping[str, Mapping[str, Written]]) -> dict[str, Any]:
    """Return which keys of a model models.yaml has, for `dvc params diff`; those of what it is like are shown there.

    In the place of a key that is absent stands another, because DVC fails on missing parameters. The plan file of a
    model says when it is to be made again, whichever entry has changed.
    """
    assert job.model is not None, "a training has a model"
    study = jobs.catalog.models[job.model].study
    own = files[study][job.model]
    there = [key for key in (*SHOWN[own.section], *OTHERWISE) if key in own.entry]
    places = [f"{own.section}.{own.key}.{key if key in there else there[0]}" for key in SHOWN[own.section]]
    return {"step": job.step, "study": study} | dict(zip(("method", "given", "training"), places, strict=True))


def _models_as_written(jobs: Jobs) -> dict[str, dict[str, Written]]:
    """Return the models of every study by id, as its models.yaml has them."""
    places = {name: study_file(name, "models") for name in jobs.catalog.studies}
    root = jobs.catalog.sources
    return {name: written("models", read_yaml(root, place), place) for name, place in places.items()}


def targets_text(jobs: Jobs) -> str:
    """Return `config/dvc-targets.yaml` as it should be."""
    lines = [_HEADER]
    for kind, items in targets(jobs).items():
        lines.append(f"{kind}:" if items else f"{kind}: {{}}")
        lines += [
            f"  {key}: {yaml.safe_dump(item, default_flow_style=True, width=1000).strip()}"
            for key, item in items.items()
        ]
    return "\n".join(lines) + "\n"


def check_targets(jobs: Jobs) -> None:
    """Refuse runs that `config/dvc-targets.yaml` does not have: it may be that of a scale with other seeds.

    Raises:
        RedoubtError: a stage is missing; the message says how to write the file.
    """
    known = yaml.safe_load((jobs.catalog.root / TARGETS).read_text(encoding="utf-8"))
    stages = [f"{kind}@{key}" for kind, items in targets(jobs).items() for key in items if key not in known[kind]]
    if stages:
        command = f"python -m redoubt.tools.dvc --targets --scale {jobs.scale}"
        raise RedoubtError(f"{TARGETS}: no {stages[0]} ({len(stages)} runs are missing); run `{command}`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", help="scale of the plan; that of config/config.yaml when absent")
    parser.add_argument("--targets", action="store_true", help=f"write {TARGETS} and nothing else")
    options = parser.parse_args(argv)
    jobs = Jobs(catalogs.load(".", {"scale": options.scale} if options.scale else None))
    if options.targets:
        write_text(TARGETS, targets_text(jobs))
    elif fetched_unseen(jobs):
        raise RedoubtError(
            f"results/{jobs.scale} was fetched, but Snakemake does not know what it was made from; "
            f"run `make restore SCALE={jobs.scale}` first"
        )
    else:
        check_targets(jobs)
        write(jobs)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
