"""What finished jobs say of those to come: the seconds and bytes of a job of the same kind, in proportion to its work.

Jobs are of one kind where they differ in nothing that decides how fast one image is: the model (see
`redoubt.cost.estimate.model_key`), the attack, and what it reads.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redoubt.cost.estimate import Cost, asked, attack_key, cost, counts_of, facts, model_key
from redoubt.graph.jobs import Job, Jobs
from redoubt.study.sizes import selected


@dataclass(frozen=True)
class Finished:
    """What finished jobs took, for an image: medians over the jobs of a kind, by the kind."""

    seconds: dict[str, float]
    bytes: dict[str, float]


NONE = Finished({}, {})


def work(jobs: Jobs, job: Job) -> tuple[str, float] | None:
    """Return the kind of a training or an attack, and how many images it sees; None if none, not known, or another job.

    Of a training these are all images of all epochs; of an attack those that are attacked, and crafted on.
    """
    if job.model is None or job.dataset is None or not (counts := counts_of(jobs.catalog, job.dataset)):
        return None
    catalog = jobs.catalog
    entry = catalog.models[job.model].entry
    attack, read = asked(catalog, job)
    keys = [model_key(entry)] + ([attack_key(attack, read, job.dataset)] if attack else [])
    if job.attack is None:
        schedule = entry.training
        images = min(schedule.images or counts["train"], counts["train"])
        seen = images * schedule.epochs
        return (" ".join(["training", *keys]), seen) if seen else None
    assert attack is not None, "a job of an attack"
    if source := catalog.runs[job.model, job.attack].crafted_on:
        keys.append(model_key(catalog.models[source].entry))
    images = selected(attack.select, counts[attack.select.stored], facts(job.dataset)[1])
    return " ".join(["attack", *keys]), images + (attack.crafting or 0)


def learned(jobs: Jobs, seconds: Mapping[str, float]) -> Finished:
    """Return what finished jobs took, given the seconds of some by their names; bytes are those of their files here."""
    found: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    for job in jobs:
        if job.name not in seconds or (own := work(jobs, job)) is None:
            continue
        kind, images = own
        found.setdefault(kind, []).append(seconds[job.name] / images)
        files = [jobs.catalog.root / file for file in job.outputs]
        if all(file.is_file() for file in files):
            sizes.setdefault(kind, []).append(sum(file.stat().st_size for file in files) / images)
    medians = [{kind: statistics.median(each) for kind, each in part.items()} for part in (found, sizes)]
    return Finished(*medians)


def predicted(jobs: Jobs, job: Job, rates: dict[str, Any], here: Finished = NONE, elsewhere: Finished = NONE) -> Cost:
    """Return what a job costs: as finished jobs say, or else as measured rates do, or else jobs of another machine.

    Args:
        jobs: all of them.
        job: one of them.
        rates: measured here.
        here: finished here.
        elsewhere: finished on another machine.
    """
    measured, own = cost(jobs, job, rates), work(jobs, job)
    for finished, known in ((here, False), (elsewhere, measured.seconds is not None)):
        if own is not None and own[0] in finished.seconds and not known:
            kind, images = own
            size = finished.bytes[kind] * images if kind in finished.bytes else measured.bytes
            return Cost(finished.seconds[kind] * images, size)
    return measured
