"""Print what a scale costs before it starts: jobs by step, hours, disk, and what cannot be had.

Reads the catalog and the files that are made; measures how fast this machine is, once, and keeps that in logs/.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from redoubt.cost import estimate
from redoubt.cost.estimate import Cost
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

MODEL_STEPS = ("pretrain", "defend", "attack")
BASIS = """\
Basis: training steps and passes of each kind of model, timed; passes of each attack are upper bounds, counted on a
model that almost never misclassifies: attacks that stop early may need a tenth. Preprocessing, tables, figures, pages:
their start alone. Disk: before compression, without the archives that a download fetches. Made: the files are there;
`snakemake -n` shows whether they are up to date. Took / estimate: seconds of jobs that have run, here or for
results/reference.
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


def works(jobs: Jobs) -> dict[str, Any]:
    """Return what is to be measured for the jobs that the report needs: a function by the key of its rate."""
    catalog, result = jobs.catalog, dict[str, Any]()
    device, threads = catalog.config.device, catalog.scale.threads
    for job in jobs.wanted:
        result[f"start {job.step}"] = partial(start_seconds, STEPS.get(job.step, job.step))
        if job.model is None:
            continue
        assert job.dataset is not None, "a job of a model has a dataset"
        facts, entry = estimate.facts(job.dataset), catalog.models[job.model].entry

        def speed(entry: ModelEntry = entry, facts: Facts = facts) -> dict[str, float]:
            from redoubt.cost import measure as rates

            return rates.of_model(entry, *facts, device, threads)

        result[estimate.model_key(entry)] = speed
        attack, read = estimate.asked(catalog, job)
        if attack is None:
            continue

        def passes(
            attack: AttackEntry = attack, read: list[AttackEntry] = read, facts: Facts = facts
        ) -> dict[str, dict[str, float]] | None:
            from redoubt.cost import measure as rates

            return rates.of_attack(attack, read, *facts)

        result[estimate.attack_key(attack, read, job.dataset)] = passes
    return result


def measured(jobs: Jobs, again: bool = False) -> dict[str, Any]:
    """Return the timing rates needed to estimate the jobs; missing ones are measured now, and kept."""
    catalog = jobs.catalog
    device = "cuda" if catalog.gpus else "cpu"
    path = catalog.root / f"logs/rates-{device}.json"
    where = {"torch": version("torch"), "threads": catalog.scale.threads}
    kept = read_json(path) if path.is_file() and not again else {}
    rates = kept["rates"] if kept.get("where") == where else {}
    todo = {key: work for key, work in works(jobs).items() if key not in rates}
    if todo:
        print(f"measuring {len(todo)} rates of this machine, once ...", file=sys.stderr)
    for key, work in progress(todo.items(), "rates"):
        rates[key] = work()
        write_json(path, {"where": where, "rates": rates})
    return rates


def job_seconds(catalog: Catalog) -> dict[str, float]:
    """Return the seconds of jobs of this scale that have run: for results/reference, or here where they did."""
    kept = catalog.root / "results/reference" / catalog.config.scale / "provenance.json"
    return (read_json(kept)["job_seconds"] if kept.is_file() else {}) | benchmarks(catalog.config.scale)


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


def table(jobs: list[Job], costs: dict[str, Cost], made: set[str], ran: dict[str, float], gpu: bool) -> list[str]:
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
            (step, str(len(own)), str(made_here), shown["CPU"], shown["GPU"], size(disk), compared(own, costs, ran))
        )
    gpu_hours = hours(sums["GPU"]) if gpu else "unknown"
    total = ("all", str(len(jobs)), str(len(made)), hours(sums["CPU"]), gpu_hours, size(sums["disk"]), "")
    widths = [max(len(row[place]) for row in [*rows, total]) for place in range(len(total))]
    lines = []
    for row in [*rows, total]:
        step, *middle, last = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(step)), *middle, row[-1].ljust(len(last))]).rstrip())
    return lines


def report(everything: Jobs, rates: dict[str, Any], ran: dict[str, float]) -> str:
    """Return the whole page: what there is to do, what it costs, and what is not known."""
    catalog, jobs = everything.catalog, everything.wanted
    costs = {job.name: estimate.cost(everything, job, rates) for job in jobs}
    made = {job.name for job in jobs if all((catalog.root / file).is_file() for file in job.outputs)}
    gpu = bool(catalog.gpus)
    left = [(job, costs[job.name]) for job in jobs if job.name not in made]
    lines = [catalog.scale.stamp, *table(jobs, costs, made, ran, gpu)]
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
    return "\n".join(lines) + "\n\n" + BASIS.format(gpu="" if gpu else NO_GPU)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", help="that of config/config.yaml when absent")
    parser.add_argument("--measure", action="store_true", help="measure again what is kept in logs/")
    options = parser.parse_args(argv)
    catalog = catalogs.load(".", {"scale": options.scale} if options.scale else None)
    jobs = Jobs(catalog)
    print(report(jobs, measured(jobs, options.measure), job_seconds(catalog)))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
