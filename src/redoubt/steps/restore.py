"""Fetch checkpoints and results from the DVC remote, prove that they fit this config and code, rebuild nothing.

With --save the other way round: record in dvc.lock what the workflow has made; push it if there is a remote.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from redoubt import catalog as catalogs
from redoubt.catalog import Catalog
from redoubt.errors import RedoubtError, cli
from redoubt.layout import artifact_file, attack_file, data_file, model_file
from redoubt.steps import plan

LOCK = Path("dvc.lock")


def stages(catalog: Catalog) -> dict[str, list[str]]:
    """Return the files of every stage of `dvc.yaml` but `plan`, which is written anew each time."""
    scale, result = catalog.config.scale, {}
    for key, model in catalog.models.items():
        name = "defend-scratch" if model.step == "defend" and model.start is None else model.step
        files = ("weights.safetensors", "model.json", "history.csv")
        result[f"{name}@{key}"] = [model_file(scale, key, 0, file) for file in files]
    for model, attack in catalog.runs:
        result[f"attack@{model}-{attack}"] = [attack_file(scale, model, 0, attack)]
    for (study, key), raw in catalog.artifacts.items():
        suffixes = {"table": ("csv", "md"), "figure": ("csv", "svg", "png")}[raw.kind]
        result[f"{raw.kind}@{study}-{key}"] = [artifact_file(scale, study, key, suffix) for suffix in suffixes]
    result["scorecard"] = [f"results/{scale}/scorecard.csv", f"results/{scale}/claims.csv"]
    result["report"] = [f"results/{scale}/report/index.html"]
    return result


def _call(*command: str, problem: str) -> str:
    """Run a command and return what it prints; its last line of error ends this one."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
        raise RedoubtError(f"{problem}: {lines[0] if lines else 'no message'}")
    return done.stdout


def _locked(catalog: Catalog) -> list[str]:
    """Return the stages that dvc.lock records at this scale."""
    if not LOCK.is_file():
        raise RedoubtError("dvc.lock: nothing has been recorded yet; run `snakemake`, then `make save`")
    recorded = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"]
    found = [
        name
        for name, files in stages(catalog).items()
        if name in recorded and {out["path"] for out in recorded[name]["outs"]} == set(files)
    ]
    if not found:
        raise RedoubtError(f"dvc.lock: nothing is recorded at scale {catalog.config.scale}")
    return found


def _groups(names: Iterable[str]) -> list[str]:
    """Return the groups that stages belong to: DVC reads all of its files anew for every target that it is given."""
    return list(dict.fromkeys(name.split("@")[0] for name in names))


def restore(catalog: Catalog, with_data: bool) -> str:
    """Fetch, check and bless everything that is recorded; return what was done.

    Raises:
        RedoubtError: the remote fails, or what is recorded was made from other config or code.
    """
    found = _locked(catalog)
    # What was never made is missing by right; what was made must come.
    _call("dvc", "pull", "--allow-missing", *_groups(found), problem="dvc pull")
    lost = [file for name in found for file in stages(catalog)[name] if not (catalog.root / file).is_file()]
    if lost:
        raise RedoubtError(f"dvc pull: {lost[0]} is recorded in dvc.lock, but the remote does not have it")
    plan.write(catalog)
    status = json.loads(_call("dvc", "status", "--json", *_groups(found), problem="dvc status"))
    if stale := [name for name in status if name in found]:
        shown = ", ".join(stale[:3]) + (f" and {len(stale) - 3} more" if len(stale) > 3 else "")
        raise RedoubtError(
            f"not restored: config or code has changed since {shown} was made; `snakemake` makes it anew"
        )
    workflow = ("snakemake", "--quiet", "all", "--cores", "1", "--config", f"scale={catalog.config.scale}")
    if with_data:
        data = sorted({model.dataset for model in catalog.models.values() if model.missing is None})
        _call(*workflow, "--", *(data_file(name, "meta.json") for name in data), problem="download")
    _call(*workflow, "--touch", "--forceall", problem="snakemake --touch")
    planned = _call("snakemake", "-n", "--config", f"scale={catalog.config.scale}", problem="snakemake -n")
    if "Nothing to be done" not in planned:
        return f"restored {len(found)} stages; the rest has not been recorded, `snakemake -n` tells what it is"
    return f"restored {len(found)} stages; nothing is left to be done"


def save(catalog: Catalog) -> str:
    """Record all finished files in dvc.lock, and push them when there is a remote; return what was done.

    Raises:
        RedoubtError: the workflow has unfinished work, or DVC fails.
    """
    root = catalog.root
    found = [name for name, files in stages(catalog).items() if all((root / file).is_file() for file in files)]
    targets = [file for name in found for file in stages(catalog)[name]]
    command = ("snakemake", "-n", "--config", f"scale={catalog.config.scale}", "--", *targets)
    if not found or "Nothing to be done" not in _call(*command, problem="snakemake -n"):
        raise RedoubtError("not saved: results are older than config or code; run `snakemake` first")
    plan.write(catalog)
    unfinished = _groups(name for name in stages(catalog) if name not in found)
    complete = [group for group in _groups(found) if group not in unfinished]
    single = [name for name in found if name.split("@")[0] in unfinished]
    _call("dvc", "commit", "--force", "plan", *complete, *single, problem="dvc commit")
    if not _call("dvc", "remote", "list", problem="dvc remote list").strip():
        return f"recorded {len(found)} stages in dvc.lock; there is no remote to push to (dvc remote add)"
    _call("dvc", "push", "--quiet", *_groups(found), problem="dvc push")
    return f"recorded {len(found)} stages in dvc.lock and pushed them"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", help="that of config/config.yaml when absent")
    parser.add_argument("--save", action="store_true", help="record and push instead")
    parser.add_argument(
        "--with-data", action="store_true", help="fetch the datasets too, for new attacks on old weights"
    )
    options = parser.parse_args(argv)
    catalog = catalogs.load(".", {"scale": options.scale} if options.scale else None)
    print(save(catalog) if options.save else restore(catalog, options.with_data))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
