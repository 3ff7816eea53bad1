"""Fetch checkpoints and results from the DVC remote, prove that they fit this config and code, rebuild nothing.

With --save the other way round: record in dvc.lock what the workflow has made; push it if there is a remote.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from redoubt import catalog as catalogs
from redoubt.catalog import Catalog
from redoubt.errors import RedoubtError, cli
from redoubt.layout import artifact_files, attack_file, data_file, model_files, scorecard_files
from redoubt.steps import plan

LOCK = Path("dvc.lock")


def stages(catalog: Catalog) -> dict[str, list[str]]:
    """Return the files of every stage of `dvc.yaml` but `plan`, which is written anew each time."""
    scale, result = catalog.config.scale, {}
    for key, model in catalog.models.items():
        name = "defend-scratch" if model.step == "defend" and model.start is None else model.step
        result[f"{name}@{key}"] = list(model_files(scale, key, 0))
    for model, attack in catalog.runs:
        result[f"attack@{model}-{attack}"] = [attack_file(scale, model, 0, attack)]
    for (study, key), raw in catalog.artifacts.items():
        result[f"{raw.kind}@{study}-{key}"] = list(artifact_files(scale, study, key, raw.kind))
    result["scorecard"] = list(scorecard_files(scale))
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


def _recorded(catalog: Catalog, names: Iterable[str]) -> dict[str, str]:
    """Return the MD5 that dvc.lock records of every file of some stages."""
    recorded = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"]
    return {out["path"]: out["md5"] for name in names for out in recorded[name]["outs"]}


def _object(digest: str) -> str:
    """Return where DVC keeps a file, below its cache and below a remote."""
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _differs(path: Path, digest: str) -> bool:
    """Tell whether a file is there and is not the one that was recorded; DVC itself takes fetched bytes on trust."""
    return path.is_file() and _md5(path) != digest


def _forget(catalog: Catalog, recorded: dict[str, str], wrong: Iterable[str]) -> None:
    """Remove damaged files, and what DVC's cache keeps of them, so that nothing uses them."""
    cache = Path(_call("dvc", "cache", "dir", problem="dvc cache dir").strip())
    for file in wrong:
        (catalog.root / file).unlink()
        (cache / _object(recorded[file])).unlink(missing_ok=True)


def _drop_damaged(catalog: Catalog, files: Iterable[str]) -> None:
    """Remove damaged copies of some whole files from DVC's cache; a commit would put them in the files' place."""
    cache = Path(_call("dvc", "cache", "dir", problem="dvc cache dir").strip())
    for file in files:
        digest = _md5(catalog.root / file)
        if _differs(kept := cache / _object(digest), digest):
            kept.unlink()


def _pull(catalog: Catalog, names: list[str]) -> list[str]:
    """Fetch the files of some stages and return those of which a damaged copy lay here, fetched anew.

    Raises:
        RedoubtError: the remote fails, lacks a file, or has a damaged one.
    """
    recorded, mended = _recorded(catalog, names), []
    while True:
        # What was never made is missing by right; what was made must come.
        _call("dvc", "pull", "--allow-missing", *_groups(names), problem="dvc pull")
        wrong = [file for file, digest in recorded.items() if _differs(catalog.root / file, digest)]
        if lost := [file for file in recorded if not (catalog.root / file).is_file()]:
            raise RedoubtError(f"dvc pull: {lost[0]} is recorded in dvc.lock, but the remote does not have it")
        if not wrong:
            return mended
        _forget(catalog, recorded, wrong)
        if mended:
            raise RedoubtError(
                f"not restored: {wrong[0]} is damaged in the DVC remote ({_object(recorded[wrong[0]])} is not what "
                "dvc.lock records), and was removed here; push a whole copy, or make it anew with `snakemake`"
            )
        mended = wrong


def _groups(names: Iterable[str]) -> list[str]:
    """Return the groups that stages belong to: DVC reads all of its files anew for every target that it is given."""
    return list(dict.fromkeys(name.split("@")[0] for name in names))


def restore(catalog: Catalog, with_data: bool) -> str:
    """Fetch, check and bless everything that is recorded; return what was done.

    Raises:
        RedoubtError: the remote fails or is damaged, or what is recorded was made from other config or code.
    """
    found = _locked(catalog)
    mended = _pull(catalog, found)
    plan.write(catalog)
    status = json.loads(_call("dvc", "status", "--json", *_groups(found), problem="dvc status"))
    stale = [name for name in found if name in status]
    for file in (file for name in stale for file in stages(catalog)[name]):
        # Without a record of its own Snakemake would take it for a result of this config.
        (catalog.root / file).unlink()
    workflow = ("snakemake", "--quiet", "all", "--cores", "1", "--config", f"scale={catalog.config.scale}")
    if with_data or stale:  # data that come later are new, and make everything that reads them anew
        data = sorted({model.dataset for model in catalog.models.values() if model.missing is None})
        _call(*workflow, "--", *(data_file(name, "meta.json") for name in data), problem="download")
    _call(*workflow, "--touch", "--forceall", problem="snakemake --touch")
    if stale:
        shown = ", ".join(stale[:3]) + (f" and {len(stale) - 3} more" if len(stale) > 3 else "")
        raise RedoubtError(
            f"not restored: config or code has changed since {shown} was made; `snakemake` makes it anew"
        )
    planned = _call("snakemake", "-n", "--config", f"scale={catalog.config.scale}", problem="snakemake -n")
    left = "nothing is left to be done"
    if "Nothing to be done" not in planned:
        left = "the rest has not been recorded, `snakemake -n` tells what it is"
    healed = f"; damaged here and fetched anew: {', '.join(mended)}" if mended else ""
    return f"restored {len(found)} stages{healed}; {left}"


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
    _drop_damaged(catalog, targets)
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
