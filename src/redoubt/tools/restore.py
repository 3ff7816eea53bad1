"""Fetch checkpoints and results from the DVC remote, prove that they fit this config and code, rebuild nothing.

With --save the other way round: record in dvc.lock what the workflow has made; push it if there is a remote.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from redoubt.errors import RedoubtError, cli, shortened
from redoubt.files import entry_digest, file_digest, write_text
from redoubt.graph.jobs import Jobs
from redoubt.layout import report_file
from redoubt.study import catalog as catalogs
from redoubt.tools import dvc as plan

LOCK = Path("dvc.lock")


def stages(jobs: Jobs) -> dict[str, tuple[str, ...]]:
    """Return the files of every stage of `dvc.yaml` but `plan`, which is written again each time, and of .dvc files."""
    return {job.stage: job.outputs for job in jobs if job.stage is not None}


def _call(*command: str, problem: str) -> str:
    """Run a command and return what it prints; the line in which it names its error ends this one."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
        named = [line[len("error:") :].strip() for line in lines if line.lower().startswith("error:")]
        raise RedoubtError(f"{problem}: {(named or lines[-1:] or ['no message'])[0]}")
    return done.stdout


def _lock() -> dict[str, dict[str, str]]:
    """Return the MD5 that dvc.lock records of the files of every stage.

    Raises:
        RedoubtError: there is no such file, or it is damaged.
    """
    if not LOCK.is_file():
        raise RedoubtError("dvc.lock: nothing has been recorded yet; run `snakemake`, then `make save`")
    with _damage(LOCK):
        recorded = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"]
        return {name: _digests(stage) for name, stage in recorded.items()}


def _digests(stage: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: str(out["md5"]) for out in stage.get("outs", [])}


@contextlib.contextmanager
def _damage(file: Path) -> Iterator[None]:
    """Report in one line that a file of DVC is not what DVC has written."""
    try:
        yield
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise RedoubtError(
            f"{file}: damaged ({type(error).__name__}: {problem}); take it from git again (git checkout {file})"
        ) from None


def _kept(jobs: Jobs) -> dict[str, dict[str, str]]:
    """Return the .dvc files of what preprocessing has learned by this config and code, with the MD5 of their files."""
    found, made_from = {}, _made_from(jobs)
    for name, digest in made_from.items():
        if (file := jobs.catalog.root / name).is_file():
            with _damage(Path(name)):
                content = yaml.safe_load(file.read_text(encoding="utf-8"))
                if content["meta"]["made_from"] == digest:
                    found[name] = _digests(content)
    return found


def _made_from(jobs: Jobs) -> dict[str, str]:
    """Return digests of entry and code of what preprocessing has learned, by the .dvc files that keep it."""
    plans = plan.plans(jobs)
    return {job.stage: entry_digest(plans[f"{job.name}.json"]) for job in jobs if job.step == "prepare" and job.stage}


def _keep(jobs: Jobs, found: Iterable[str]) -> None:
    """Write the .dvc files of what preprocessing has learned: DVC has no stage for what several scales share."""
    root, files, made_from = jobs.catalog.root, stages(jobs), _made_from(jobs)
    for name in (name for name in found if name in made_from):
        (file,) = files[name]
        facts = {"md5": file_digest(root / file, "md5"), "size": (root / file).stat().st_size, "hash": "md5"}
        content = {"wdir": "..", "meta": {"made_from": made_from[name]}, "outs": [{**facts, "path": file}]}
        write_text(root / name, yaml.safe_dump(content, sort_keys=False))


def _recorded(jobs: Jobs) -> dict[str, dict[str, str]]:
    """Return the stages that dvc.lock records at this scale, with the MD5 of their files."""
    lock = _lock()
    found = {name: lock[name] for name, files in stages(jobs).items() if set(lock.get(name, ())) == set(files)}
    if not found:
        raise RedoubtError(f"dvc.lock: nothing is recorded at scale {jobs.scale}")
    return found | _kept(jobs)


def _object(digest: str) -> str:
    """Return where DVC keeps a file, below its cache and below a remote."""
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def _differs(path: Path, digest: str) -> bool:
    """Tell whether a file is there and is not the one that was recorded; DVC itself takes fetched bytes on trust."""
    return path.is_file() and file_digest(path, "md5") != digest


def _forget(root: Path, recorded: dict[str, str], wrong: Iterable[str]) -> None:
    """Remove damaged files, and what DVC's cache keeps of them, so that nothing uses them."""
    cache = Path(_call("dvc", "cache", "dir", problem="dvc cache dir").strip())
    for file in wrong:
        (root / file).unlink()
        (cache / _object(recorded[file])).unlink(missing_ok=True)


def _drop_damaged(root: Path, files: Iterable[str]) -> None:
    """Remove damaged copies of some whole files from DVC's cache; a commit would put them in the files' place."""
    cache = Path(_call("dvc", "cache", "dir", problem="dvc cache dir").strip())
    for file in files:
        digest = file_digest(root / file, "md5")
        if _differs(kept := cache / _object(digest), digest):
            kept.unlink()


@dataclass
class Pulled:
    """Files that were damaged here and fetched again, those that are damaged in the remote, and those it lacks."""

    repaired: list[str]
    damaged: list[str]
    lost: list[str]

    def problems(self, recorded: dict[str, str]) -> list[str]:
        """Return what is wrong with the remote, damaged objects by their names in it."""
        found = []
        if self.damaged:
            named = [f"{file} ({_object(recorded[file])} is not what dvc.lock records)" for file in self.damaged]
            found.append(f"damaged in the DVC remote, and removed here: {shortened(named, 3)}")
        if self.lost:
            found.append(f"recorded in dvc.lock, but not in the DVC remote: {shortened(self.lost, 3)}")
        return found


def _pull(root: Path, names: Iterable[str], recorded: dict[str, str]) -> Pulled:
    """Fetch the files of some stages; damaged ones are fetched once more, and deleted if they are still damaged.

    Raises:
        RedoubtError: DVC fails.
    """

    def once() -> list[str]:
        # Stages that were never recorded may be missing; recorded files must be fetched.
        _call("dvc", "pull", "--allow-missing", *_groups(names), problem="dvc pull")
        wrong = [file for file, digest in recorded.items() if _differs(root / file, digest)]
        _forget(root, recorded, wrong)
        return wrong

    first = once()
    damaged = once() if first else []
    absent = [file for file in recorded if not (root / file).is_file()]
    return Pulled(
        repaired=[file for file in first if file not in absent],
        damaged=damaged,
        lost=[file for file in absent if file not in damaged],
    )


def _groups(names: Iterable[str]) -> list[str]:
    """Return the groups that stages belong to: DVC reads all of its files again for every target that it is given."""
    return list(dict.fromkeys(name.split("@")[0] for name in names))


def _changed(status: list[Any]) -> bool:
    """Tell whether DVC says of a stage that something is other than recorded; what is merely not here is no change."""
    return any(
        not isinstance(part, dict) or any(state != "deleted" for changes in part.values() for state in changes.values())
        for part in status
    )


def restore(jobs: Jobs, with_data: bool) -> str:
    """Fetch and verify all recorded files, then mark them up to date in Snakemake; return what was done.

    Results of another config are removed, with all that was made from them. Of what is damaged or lost only the report
    goes too: the next run of Snakemake draws what that lacks, and leaves the rest.

    Raises:
        RedoubtError: the remote fails or is damaged, or what is recorded was made from other config or code.
    """
    root, files, found = jobs.catalog.root, stages(jobs), _recorded(jobs)
    recorded = {file: digest for digests in found.values() for file, digest in digests.items()}
    pulled = _pull(root, found, recorded)
    problems = pulled.problems(recorded)
    plan.write(jobs)
    status = json.loads(_call("dvc", "status", "--json", *_groups(found), problem="dvc status"))
    stale = [name for name in found if _changed(status.get(name, []))]
    for file in (file for name in stale for file in files[name]):
        # Without its record Snakemake would take it for a result of this config.
        (root / file).unlink(missing_ok=True)
    if problems:
        (root / report_file(jobs.scale)).unlink(missing_ok=True)
    if stale:
        problems.append(f"made before config or code was changed: {shortened(stale, 3)}")
    workflow = ("snakemake", "--quiet", "all", "--cores", "1", "--config", f"scale={jobs.scale}")
    if with_data or problems:  # datasets fetched later would look newer than the results and trigger reruns
        data = [job.outputs[-1] for job in jobs.wanted if job.step in ("download", "prepare")]
        data = [file for file in data if file not in recorded]  # what was fetched is not made again from the data
        try:
            _call(*workflow, "--", *data, problem="download")
        except RedoubtError as error:
            problems.append(str(error))
    _call(*workflow, "--touch", "--forceall", problem="snakemake --touch")
    if problems:
        raise RedoubtError(
            f"not restored: {'; '.join(problems)}; `snakemake` draws what is missing, `snakemake FILE` any"
        )
    planned = _call("snakemake", "-n", "--config", f"scale={jobs.scale}", problem="snakemake -n")
    left = "nothing is left to be done"
    if "Nothing to be done" not in planned:
        left = "the rest has not been recorded, `snakemake -n` shows what it is"
    repaired = f"; damaged here and fetched again: {', '.join(pulled.repaired)}" if pulled.repaired else ""
    return f"restored {len(found)} stages{repaired}; {left}"


def save(jobs: Jobs) -> str:
    """Record all finished files in dvc.lock, and push them when there is a remote; return what was done.

    Raises:
        RedoubtError: the workflow has unfinished work, dvc.lock is damaged, or DVC fails.
    """
    if LOCK.exists():
        _lock()  # a damaged one is found now, and not by DVC after an hour of work
    root, known = jobs.catalog.root, stages(jobs)
    found = [name for name, files in known.items() if all((root / file).is_file() for file in files)]
    targets = [file for name in found for file in known[name]]
    command = ("snakemake", "-n", "--config", f"scale={jobs.scale}", "--", *targets)
    if not found or "Nothing to be done" not in _call(*command, problem="snakemake -n"):
        raise RedoubtError("not saved: results are older than config or code; run `snakemake` first")
    plan.write(jobs)
    _keep(jobs, found)
    unfinished = _groups(name for name in known if name not in found)
    complete = [group for group in _groups(found) if group not in unfinished]
    single = [name for name in found if name.split("@")[0] in unfinished]
    _drop_damaged(root, targets)
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
    jobs = Jobs(catalogs.load(".", {"scale": options.scale} if options.scale else None))
    plan.check_targets(jobs)
    print(save(jobs) if options.save else restore(jobs, options.with_data))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
