"""Print what a scale costs before it starts: jobs by step, hours, disk, and what cannot be had.

Reads the catalog, the files that are made and the seconds that finished jobs took; measures how fast this machine is
where no finished job says so, for at most a minute at a time, and keeps that in logs/.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redoubt.cost import estimate
from redoubt.cost.estimate import Cost
from redoubt.cost.learned import NONE, Finished, learned, predicted, work
from redoubt.errors import cli, shortened
from redoubt.files import read_json, write_json
from redoubt.graph.jobs import NAMES, STEPS, Job, Jobs
from redoubt.progress import progress
from redoubt.study import catalog as catalogs
from redoubt.study.catalog import Catalog
from redoubt.study.entries.attack import AttackEntry
from redoubt.study.entries.model import ModelEntry
from redoubt.tools.reference import seconds as benchmarks

Facts = tuple[tuple[int, int, int], int]
"""Shape of a dataset's images, and the number of its classes."""

LIMIT_SECONDS = 45.0
"""That measuring takes at most, as far as its longest measurement so far tells."""
MODEL_STEPS = ("pretrain", "defend", "attack")
BASIS = """\
Basis: seconds of {learned} finished jobs, for those of the same kind, by images. Of others: training steps and passes
of each kind of model, timed; passes of each attack are upper bounds, counted on a model that almost never
misclassifies: attacks that stop early may need a tenth. Or else jobs of results/reference, on another machine. All
else: its start alone. Disk: without archives. Made: files are there; `snakemake -n` shows whether they are up to date.
Took / estimate: seconds of jobs that have run, here or for results/reference, by what was measured.
{gpu}"""
NO_GPU = "GPU hours: no GPU here, so nothing was measured."


def start_seconds(step: str) -> float:
    """Return the CPU seconds until a step has imported what it needs."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run([sys.executable, "-m", f"redoubt.steps.{step}", "--help"], stdout=subprocess.DEVNULL, check=True)
    return spent() - before


def works(jobs: Jobs, here: Finished = NONE, made: Collection[str] = ()) -> dict[str, Any]:
    """Return what is to be measured for the jobs that the report needs: a function by the key of its rate.

    Jobs that are made or of which finished ones say enough are left out. What most of the others need comes first.

    Args:
        jobs: all of them.
        here: finished on this machine.
        made: names of jobs whose files are there.
    """
    catalog, result, needed = jobs.catalog, dict[str, Any](), Counter[str]()
    device, threads = catalog.config.device, catalog.scale.threads
    for job in jobs.wanted:
        if job.name in made or ((own := work(jobs, job)) is not None and own[0] in here.seconds):
            continue
        found: dict[str, Any] = {f"start {job.step}": partial(start_seconds, STEPS.get(job.step, job.step))}
        if job.model is not None:
            assert job.dataset is not None, "a job of a model has a dataset"
            facts, entry = estimate.facts(job.dataset), catalog.models[job.model].entry
            found[estimate.model_key(entry)] = partial(_speed, entry, facts, device, threads)
            attack, read = estimate.asked(catalog, job)
            if attack is not None:
                found[estimate.attack_key(attack, read, job.dataset)] = partial(_passes, attack, read, facts)
        needed.update(found.keys())
        result |= found
    return {key: result[key] for key in sorted(result, key=lambda key: (key.startswith("start"), -needed[key]))}


def _speed(entry: ModelEntry, facts: Facts, device: str, threads: int) -> dict[str, float]:
    from redoubt.cost import measure as rates

    return rates.of_model(entry, *facts, device, threads)


def _passes(attack: AttackEntry, read: list[AttackEntry], facts: Facts) -> dict[str, dict[str, float]] | None:
    from redoubt.cost import measure as rates

    return rates.of_attack(attack, read, *facts)


def measured(
    jobs: Jobs,
    again: bool = False,
    here: Finished = NONE,
    made: Collection[str] = (),
    limit: float = LIMIT_SECONDS,
) -> dict[str, Any]:
    """Return the timing rates needed to estimate the jobs; missing ones are measured now, and kept.

    Args:
        jobs: all of them.
        again: measure what is kept, too.
        here: finished on this machine, see `works`.
        made: see there.
        limit: seconds; what is not measured by then is measured the next time.
    """
    catalog = jobs.catalog
    device = "cuda" if catalog.gpus else "cpu"
    path = catalog.root / f"logs/rates-{device}.json"
    where = {"torch": version("torch"), "threads": catalog.scale.threads}
    kept = read_json(path) if path.is_file() and not again else {}
    rates = kept["rates"] if kept.get("where") == where else {}
    wanted = works(jobs, here, made) if limit > 0 else {}
    todo = {key: measure for key, measure in wanted.items() if key not in rates}
    if todo:
        print(f"measuring {len(todo)} rates of this machine, for {limit:.0f} seconds at most ...", file=sys.stderr)
    began, longest = time.monotonic(), 0.0
    for place, (key, measure) in enumerate(progress(todo.items(), "rates")):
        start = time.monotonic()
        if start + longest > began + limit:
            print(f"measured {place} of {len(todo)} rates; the next call measures more", file=sys.stderr)
            break
        rates[key] = measure()
        write_json(path, {"where": where, "rates": rates})
        longest = max(longest, time.monotonic() - start)
    return rates


def reference_seconds(catalog: Catalog) -> dict[str, float]:
    """Return the seconds of jobs of this scale that have run for results/reference."""
    kept = catalog.root / "results/reference" / catalog.config.scale / "provenance.json"
    return read_json(kept)["job_seconds"] if kept.is_file() else {}


def seconds_here(catalog: Catalog) -> dict[str, float]:
    """Return the seconds of jobs that have run here, from start to end: of a resumed one they are those of its end."""
    scale = catalog.config.scale
    return {name: took for name, took in benchmarks(scale).items() if not _resumed(Path(f"logs/{scale}/{name}.log"))}


def _resumed(log: Path) -> bool:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return any(line.startswith("resumed after ") for line in lines)


def made_of(jobs: Jobs) -> set[str]:
    """Return the names of the jobs whose files are there."""
    root = jobs.catalog.root
    return {job.name for job in jobs if all((root / file).is_file() for file in job.outputs)}


def hours(seconds: float) -> str:
    """Return seconds as hours, to two digits."""
    if 0.0 < seconds < 36.0:
        return "< 0.01"
    return f"{seconds / 3600:,.0f}" if seconds >= 36_000 else f"{seconds / 3600:.2g}"


def size(count: float) -> str:
    """Return bytes in a unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def compared(jobs: list[Job], costs: dict[str, Cost], ran: dict[str, float]) -> str:
    """Return how long jobs that have run took, in units of their estimates: the median, and the middle eight tenths."""
    found = sorted(ran[job.name] / cost for job in jobs if job.name in ran and (cost := costs[job.name].seconds))
    if not found:
        return "-"
    low, high = found[len(found) // 10], found[-1 - len(found) // 10]
    return f"{statistics.median(found):.2g} ({low:.2g} to {high:.2g}) of {len(found)}"


def table(
    jobs: list[Job],
    costs: dict[str, Cost],
    made: set[str],
    ran: dict[str, float],
    gpu: bool,
    timed: dict[str, Cost],
) -> list[str]:
    """Return the lines of the table: what is still to be made, by step, and in all."""
    rows = [("step", "jobs", "made", "CPU hours", "GPU hours", "disk", "took / estimate")]
    sums = {"CPU": 0.0, "GPU": 0.0, "disk": 0.0}
    for step in NAMES:
        own = [job for job in jobs if job.step == step]
        left = [costs[job.name] for job in own if job.name not in made]
        known = [cost.seconds for cost in left if cost.seconds is not None]
        unit = "GPU" if gpu and step in MODEL_STEPS else "CPU"
        disk = sum(cost.bytes or 0.0 for cost in left)
        sums[unit] += sum(known)
        sums["disk"] += disk
        shown = {"CPU": "", "GPU": "", unit: hours(sum(known)) if known or not left else "unknown"}
        shown[unit] += " +" * (0 < len(known) < len(left))
        made_here = sum(job.name in made for job in own)
        rows.append(
            (step, str(len(own)), str(made_here), shown["CPU"], shown["GPU"], size(disk), compared(own, timed, ran))
        )
    gpu_hours = hours(sums["GPU"]) if gpu else "unknown"
    total = ("all", str(len(jobs)), str(len(made)), hours(sums["CPU"]), gpu_hours, size(sums["disk"]), "")
    widths = [max(len(row[place]) for row in [*rows, total]) for place in range(len(total))]
    lines = []
    for row in [*rows, total]:
        step, *middle, last = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(step)), *middle, row[-1].ljust(len(last))]).rstrip())
    return lines


def report(
    everything: Jobs, rates: dict[str, Any], here: dict[str, float], reference: dict[str, float] | None = None
) -> str:
    """Return the whole page: what there is to do, what it costs, and what is not known.

    Args:
        everything: all jobs.
        rates: measured here.
        here: seconds of jobs that have run here.
        reference: seconds of jobs that have run on another machine.
    """
    catalog, jobs, ran = everything.catalog, everything.wanted, (reference or {}) | here
    finished, elsewhere = learned(everything, here), learned(everything, reference or {})
    costs = {job.name: predicted(everything, job, rates, finished, elsewhere) for job in jobs}
    made = made_of(everything) & costs.keys()
    timed = {job.name: estimate.cost(everything, job, rates) for job in jobs if job.name in ran}
    gpu = bool(catalog.gpus)
    left = [(job, costs[job.name]) for job in jobs if job.name not in made]
    lines = [catalog.scale.stamp, *table(jobs, costs, made, ran, gpu, timed)]
    total = sum(cost.seconds or 0.0 for _, cost in left)
    cores = 1 if gpu else os.cpu_count() or 1
    where = "one GPU" if gpu else f"{cores} cores"
    lines.append(f"\nAt best {hours(total / cores)} hours on {where}. The longest of those left:")
    longest = sorted((pair for pair in left if pair[1].seconds), key=lambda pair: -(pair[1].seconds or 0.0))[:3]
    lines += [f"  {hours(cost.seconds or 0.0)} h  {job.name}" for job, cost in longest]
    unknown: dict[str, list[str]] = {}
    for job, cost in left:
        if cost.seconds is None:
            unknown.setdefault(cost.why, []).append(job.name)
    if unknown:
        lines.append("\nNot known, and in no sum:")
        lines += [f"  {why}: {shortened(names, 4)}" for why, names in unknown.items()]
    if missing := estimate.absent(catalog):
        lines.append("\nNot run here, and in no sum; their rows will read not-run:")
        lines += [f"  {why}: {len(models)} models" for why, models in missing.items()]
    return "\n".join(lines) + "\n\n" + BASIS.format(gpu="" if gpu else NO_GPU, learned=len(here))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", help="that of config/config.yaml when absent")
    parser.add_argument("--measure", action="store_true", help="measure again what is kept in logs/")
    options = parser.parse_args(argv)
    catalog = catalogs.load(".", {"scale": options.scale} if options.scale else None)
    jobs = Jobs(catalog)
    here = seconds_here(catalog)
    rates = measured(jobs, options.measure, learned(jobs, here), made_of(jobs))
    print(report(jobs, rates, here, reference_seconds(catalog)))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
