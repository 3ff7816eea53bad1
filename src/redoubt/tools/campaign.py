"""Run a scale for a limited time, what is worth most first, and stop with all states saved; the next call goes on.

Snakemake makes everything, by its own rules: the bytes are those of one long run. The next call may be made on another
machine, with the same folder or with what `--pack` has put into one file.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from redoubt.cost.estimate import Cost
from redoubt.cost.learned import learned, predicted, work
from redoubt.errors import RedoubtError, cli, shortened
from redoubt.graph.jobs import Job, Jobs
from redoubt.study import catalog as catalogs
from redoubt.tools import plan
from redoubt.tools.pack import pack

GRACE_SECONDS = 20.0
"""In which running jobs are stopped before the time is over."""
SHARE_FOR_MEASURING = 0.1
UNKNOWN_SECONDS = 60.0
"""Of a job of which nothing is known."""
LOCK = Path(".snakemake/campaign.lock")
OUTPUT = Path("logs/campaign.log")
"""What Snakemake says."""
STATES = Path("results/.resume")


# -- what comes next ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """A table, a figure or the report: what it lacks, what it is worth, and how long that takes."""

    job: Job
    lacks: tuple[Job, ...]  # in an order in which they can run, itself included
    worth: int  # printed numbers that it shows, and one for itself
    seconds: float  # of one core

    @property
    def value(self) -> float:
        """What a second on it is worth."""
        return self.worth / max(self.seconds, 1.0)


def goals(jobs: Jobs, made: set[str], seconds: dict[str, float]) -> list[Goal]:
    """Return the tables and figures that are not made, the most valuable first; the report comes last.

    The value of one is counted again after those before it are made, which may share models with it.

    Args:
        jobs: all of them.
        made: names of those whose files are there.
        seconds: that are left of each, by their names.
    """
    worth = _worth(jobs)
    wanted = {job.name for job in jobs.wanted}
    left = [job for job in jobs if job.artifact is not None and job.name in wanted and job.name not in made]
    upstream = {job.name: jobs.upstream(job) for job in left}
    done, result = set(made), list[Goal]()

    def goal(job: Job, all_of_it: list[Job]) -> Goal:
        lacks = tuple(each for each in all_of_it if each.name not in done)
        return Goal(job, lacks, worth.get(job.name, 1), sum(seconds[each.name] for each in lacks))

    while left:
        best = max((goal(job, upstream[job.name]) for job in left), key=lambda goal: goal.value)
        result.append(best)
        done |= {job.name for job in best.lacks}
        left.remove(best.job)
    report = jobs.wanted[-1]
    return result + ([goal(report, jobs.wanted)] if report.name not in made or result else [])


def _worth(jobs: Jobs) -> dict[str, int]:
    """Return by the names of tables and figures how many printed numbers each shows, and one for itself."""
    shown = Counter((study, artifact) for study, own in jobs.catalog.printed.items() for artifact, *_ in own)
    return {job.name: 1 + shown[str(job.study), str(job.artifact)] for job in jobs if job.study and job.artifact}


def together(goals: list[Goal], seconds: float) -> list[Goal]:
    """Return the first goals, as many as are done in the seconds of all cores, and at least one."""
    result: list[Goal] = []
    for goal in goals:
        seconds -= goal.seconds
        if result and seconds < 0:
            break
        result.append(goal)
    return result


def left_of(job: Job, jobs: Jobs, cost: Cost) -> float:
    """Return the seconds that are left of a job: those of its images that a saved state has not seen."""
    seconds = UNKNOWN_SECONDS if cost.seconds is None else cost.seconds
    if (own := work(jobs, job)) is None:
        return seconds
    name = f"{job.model}-seed-{job.seed}-{f'{job.attack}-' if job.attack else ''}"
    states = (jobs.catalog.root / STATES).glob(f"{name}{'[0-9a-f]' * 16}/state.safetensors")
    done = max((_done(state) for state in states), default=0)
    if job.attack is None:
        done *= jobs.catalog.models[str(job.model)].entry.training.batch_size
    return seconds * max(0.0, 1.0 - done / own[1])


def _done(state: Path) -> int:
    """Return how many steps or images a state says are done; 0 of one that cannot be read."""
    try:
        with state.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size)) if size < 1e8 else {}
        return int(json.loads(header["__metadata__"]["facts"])["done"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return 0


def look(scale: str | None, minutes: float) -> tuple[Jobs, set[str], dict[str, float]]:
    """Return all jobs, the names of those that are made, and the seconds left of each of the others.

    Raises:
        RedoubtError: a mistake in the config.
    """
    jobs = Jobs(catalogs.load(".", {"scale": scale} if scale else None))
    here, made = learned(jobs, own := plan.seconds_here(jobs.catalog)), plan.made_of(jobs)
    limit = min(plan.LIMIT_SECONDS, 60.0 * minutes * SHARE_FOR_MEASURING)
    rates = plan.measured(jobs, here=here, made=made, limit=limit)
    elsewhere = learned(jobs, plan.reference_seconds(jobs.catalog) | own)
    left = [job for job in jobs if job.name not in made]
    return jobs, made, {job.name: left_of(job, jobs, predicted(jobs, job, rates, here, elsewhere)) for job in left}


# -- running it --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def alone() -> Iterator[IO[str]]:
    """Hold this folder's campaign; what a killed one has left locked is unlocked.

    Raises:
        RedoubtError: another campaign, or Snakemake of one, runs here.
    """
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RedoubtError(f"{LOCK}: another campaign runs in this folder; wait for its end") from None
        file.seek(0)
        if file.read():
            subprocess.run(["snakemake", "--unlock"], capture_output=True, check=False)
        file.write("running\n")
        file.flush()
        try:
            yield file
        finally:  # whoever is killed does not come here
            file.truncate(0)


def run(targets: list[str], scale: str, cores: int, end: float, lock: IO[str]) -> bool:
    """Let Snakemake make some files until a moment of the monotonic clock; tell whether it came to its end by itself.

    Running jobs are interrupted in time, and killed where that does not help; their states are on disk.
    """
    command = [sys.executable, "-m", "redoubt.graph.warm", "snakemake", "--cores", str(cores), "--quiet", "rules"]
    OUTPUT.parent.mkdir(exist_ok=True)
    with OUTPUT.open("a") as output:
        running = subprocess.Popen(
            [*command, "--config", f"scale={scale}", "--", *targets],
            start_new_session=True,
            pass_fds=[lock.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        running.wait(max(0.0, end - time.monotonic()))
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(running.pid, number)
                running.wait(GRACE_SECONDS - 5.0)
        if running.returncode in (-signal.SIGKILL, None):
            subprocess.run(["snakemake", "--unlock"], capture_output=True, check=False)


def campaign(scale: str | None, minutes: float, cores: int) -> str:
    """Run a scale for some minutes, what is worth most first; return what is done, what is next and how long it takes.

    Raises:
        RedoubtError: another campaign runs in this folder, or a mistake in the config.
    """
    end, failed = time.monotonic() + 60.0 * minutes - GRACE_SECONDS, set[str]()
    with alone() as lock:
        jobs, before, seconds = look(scale, minutes)
        made = before
        if not goals(jobs, made, seconds):  # all files are there; Snakemake knows whether they are up to date
            run([jobs.wanted[-1].outputs[0]], jobs.catalog.config.scale, cores, end, lock)
        while (todo := _open(goals(jobs, made, seconds), failed)) and time.monotonic() < end:
            chosen = together(todo, (end - time.monotonic()) * cores)
            print(f"making {', '.join(goal.job.name for goal in chosen)}", file=sys.stderr)
            targets = [goal.job.outputs[0] for goal in chosen]
            if not run(targets, jobs.catalog.config.scale, cores, end, lock):
                break
            made = plan.made_of(jobs)
            failed |= {goal.job.name for goal in chosen if goal.job.name not in made}
    jobs, made, seconds = look(scale, 0.0)
    return summary(jobs, made - before, goals(jobs, made, seconds), failed, cores)


def _open(goals: list[Goal], failed: set[str]) -> list[Goal]:
    """Return goals that have not failed; the report, which needs all of them, when none of them has."""
    return [goal for goal in goals if goal.job.name not in failed and (goal.job.artifact is not None or not failed)]


def summary(jobs: Jobs, done: set[str], left: list[Goal], failed: set[str], cores: int) -> str:
    """Return what a campaign says at its end."""
    artifacts = [job.name for job in jobs if job.artifact is not None]
    lines = [f"{len(done)} jobs done, among them {sum(name in done for name in artifacts)} tables and figures"]
    states = len(list((jobs.catalog.root / STATES).glob("*/state.safetensors")))
    lines += [f"{states} unfinished jobs go on from their states"] if states else []
    lines += [f"failed, see {OUTPUT}: {shortened(sorted(failed), 4)}"] if failed else []
    if not left:
        return "\n".join([*lines, f"all of scale {jobs.catalog.config.scale} is made"])
    total = sum(goal.seconds for goal in left)
    lines.append(
        f"left: {sum(len(goal.lacks) for goal in left)} jobs, at best {plan.hours(total / cores)} hours; next:"
    )
    for goal in left[:5]:
        what = f"{goal.job.name}: {len(goal.lacks)} jobs, {goal.worth - 1} printed numbers"
        lines.append(f"  {plan.hours(goal.seconds / cores)} h  {what}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", help="that of config/config.yaml when absent")
    parser.add_argument("--minutes", type=float, default=55.0, help="time that it takes at most; 0 runs nothing")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="all when absent")
    parser.add_argument("--pack", type=Path, help="afterwards, put what the next call needs into one file (tar)")
    parser.add_argument("--pack-size", type=float, default=10.0, help="GB that the file may have")
    options = parser.parse_args(argv)
    if options.minutes < 0 or options.cores < 1 or options.pack_size <= 0:
        raise RedoubtError("campaign: --minutes: 0 or more; --cores: 1 or more; --pack-size: more than 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by a signal; the next call goes on"))
    print(campaign(options.scale, options.minutes, options.cores))
    if options.pack is not None:
        scale = options.scale or catalogs.load(".").config.scale
        print(pack(options.pack, scale, options.pack_size * 1e9))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
