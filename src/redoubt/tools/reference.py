"""Keep a finished run: copy its small results to results/reference/<scale>, with their provenance.

Reads what a scale's run has drawn so far; writes tables, figures, scorecard, claims, results.json (of studies of which
something is drawn) and provenance.json (commit, hash of the configuration, machine, versions, what models were trained
with, seconds of every job). What was not drawn is left out and named.
"""

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError, cli
from redoubt.files import canonical_json, read_json, write_json, write_text
from redoubt.judging import decided
from redoubt.judging.cells import Cell
from redoubt.judging.results import Results, config_digest, results
from redoubt.judging.tables import frame
from redoubt.steps import scorecard
from redoubt.study import catalog

SUFFIXES = ("csv", "md", "svg", "png")
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "foolbox", "snakemake")


def git(*arguments: str) -> str:
    """Return what git says, or nothing outside a repository."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def seconds(scale: str) -> dict[str, float]:
    """Return the wall seconds of every training and attack job of a scale, from Snakemake's benchmark files."""
    result = {}
    for path in sorted(Path("logs/benchmarks", scale).rglob("*.tsv")):
        with path.open() as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        result["/".join(path.with_suffix("").parts[3:])] = round(float(rows[-1]["s"]), 1)
    return result


def trained(scale: str) -> list[dict[str, Any]]:
    """Return the versions, devices and threads that the models of a scale were trained with, each once."""
    facts = [read_json(path) for path in Path("results", scale, "models").glob("*/seed-*/model.json")]
    kinds = [{**fact["versions"], "device": fact["device"], "threads": fact["threads"]} for fact in facts]
    return sorted((kind for at, kind in enumerate(kinds) if kind not in kinds[:at]), key=canonical_json)


def provenance(found: catalog.Catalog, drawn: list[str], absent: list[str]) -> dict[str, Any]:
    """Return where a run's numbers come from."""
    return {
        "scale": found.config.scale,
        "commit": git("rev-parse", "HEAD"),
        "changed_files": git("diff", "--name-only", "HEAD", "--", ".", ":!results/reference").splitlines(),
        "config_hash": config_digest(found),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "trained_with": trained(found.config.scale),
        "job_seconds": seconds(found.config.scale),
        "drawn": drawn,
        "not_drawn": absent,
    }


def record(found: Results, studies: Collection[str]) -> str:
    """Return results.json of some studies, without spaces and without values that its schema has as defaults."""
    own = {key: study for key, study in found.studies.items() if key in studies}
    facts = found.model_copy(update={"studies": own}).model_dump(mode="json", exclude_defaults=True)
    return canonical_json({"format": found.format, **facts}) + "\n"


def keep(found: catalog.Catalog, out: Path) -> list[str]:
    """Copy what is drawn to `out` and return the names of the artifacts.

    Raises:
        RedoubtError: nothing is drawn at this scale.
    """
    folder = Path("results") / found.config.scale
    drawn: list[str] = []
    absent: list[str] = []
    for study, artifact in found.artifacts:
        files = [path for suffix in SUFFIXES if (path := folder / study / f"{artifact}.{suffix}").exists()]
        (drawn if files else absent).append(f"{study}/{artifact}")
        for path in files:
            (out / study).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / study / path.name)
    if not drawn:
        raise RedoubtError(f"{folder}: nothing is drawn there; run snakemake first")
    cells = scorecard.scorecard(found, folder)
    claims = scorecard.claims(found, folder)
    frames = {"scorecard": frame(Cell, cells), "claims": frame(decided.Row, claims)}
    for name, table in frames.items():
        write_text(out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    studies = {name.split("/")[0] for name in drawn}
    write_text(out / "results.json", record(results(found, folder, cells, claims), studies))
    write_json(out / "provenance.json", provenance(found, drawn, absent))
    return drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", required=True, help="scale of the finished run")
    parser.add_argument("--out", type=Path, help="folder to write; results/reference/<scale> when left out")
    options = parser.parse_args(argv)
    found = catalog.load(".", {"scale": options.scale})
    drawn = keep(found, options.out or Path("results/reference") / options.scale)
    print(f"kept {len(drawn)} artifacts: {', '.join(drawn)}")
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
