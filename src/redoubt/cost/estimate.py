"""What a job costs, from measured rates: seconds and bytes.

Nothing here imports torch; `redoubt.cost.measure` measures what the costs are made of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from redoubt import registry
from redoubt.data import sources
from redoubt.files import canonical_json, read_json
from redoubt.graph.jobs import Job, Jobs
from redoubt.layout import data_file
from redoubt.study.catalog import Catalog
from redoubt.study.entries.attack import AttackEntry
from redoubt.study.entries.model import ModelEntry, Training
from redoubt.study.sizes import selected

START_SECONDS = 3.0  # of a step until it has imported what it needs, before that is measured
ROW_BYTES = 72  # of an attacked image: nine columns of at most eight bytes, before compression


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of one job; None where they are not known, and `why`."""

    seconds: float | None
    bytes: float | None
    why: str = ""


def absent(catalog: Catalog) -> dict[str, list[str]]:
    """Return the models that cannot be run here, by the reason."""
    result: dict[str, list[str]] = {}
    for key, model in catalog.models.items():
        if model.missing is not None:
            result.setdefault(model.missing, []).append(key)
    return result


def facts(dataset: str) -> tuple[tuple[int, int, int], int]:
    """Return the shape of a dataset's images and the number of its classes."""
    source = sources.source(dataset)
    return source.shape, len(source.classes) or 1000  # ImageNet's are read from the user's folder


# -- what is measured --------------------------------------------------------------------------------------------------


def model_key(entry: ModelEntry) -> str:
    """Return what decides how fast a model is: its entry but for numbers that change values alone.

    Of a defense's parameters whole numbers (steps, peers, draws) and names count, fractions (weights of a term) do not.
    """
    defense = entry.defense
    options = registry.parameters("defenses", defense.name, defense.parameters).model_dump(by_alias=True)
    amounts = {key: value for key, value in options.items() if not isinstance(value, float)}
    training = {key: getattr(entry.training, key) for key in ("batch_size", "optimizer", "augmentation")}
    parts = [entry.dataset, entry.network.model_dump(), entry.preprocessing.name, defense.name, amounts, training]
    return "model " + canonical_json([*parts, entry.start is not None])


def attack_key(entry: AttackEntry, read: list[AttackEntry], dataset: str) -> str:
    """Return what decides how many passes an attack takes: its entry but for the number of images."""
    kept = {key: value for key, value in entry.dump().items() if key not in ("id", "select", "keep_images", "crafting")}
    rhos = [source.parameters.get("rhos") for source in read]
    return "attack " + canonical_json([kept, entry.crafting is None, rhos, *facts(dataset)])


def tracking(entry: ModelEntry) -> AttackEntry | None:
    """Return the attack that measures rho_2 after every epoch, as an attack's entry; None where nothing does."""
    probes = [probe for probe in entry.training.probes if probe.probe == "rho-2"]
    if not probes:
        return None
    return AttackEntry(id="track", attack="deepfool", space="preprocessed", parameters=probes[0].parameters)


# -- what follows ------------------------------------------------------------------------------------------------------


def cost(jobs: Jobs, job: Job, rates: dict[str, Any]) -> Cost:
    """Return what one job costs, from measured `rates` by key."""
    start, catalog = rates.get(f"start {job.step}", START_SECONDS), jobs.catalog
    if job.step == "download":
        return _download(job)
    if job.model is None:
        return Cost(start, 0.0)
    assert job.dataset is not None, "a job of a model has a dataset"
    counts = counts_of(catalog, job.dataset)
    entry = catalog.models[job.model].entry
    speed = rates.get(model_key(entry))
    if not counts or speed is None:
        return Cost(None, None, "its images are not counted yet" if not counts else "its model was not measured")
    attack, read = asked(catalog, job)
    passes = rates.get(attack_key(attack, read, job.dataset)) if attack else None
    if job.attack is None:
        return Cost(start + _training(entry.training, counts, speed, passes), speed["bytes"])
    if attack is None or passes is None:
        return Cost(None, None, "its passes cannot be counted")
    shape, classes = facts(job.dataset)
    images = selected(attack.select, counts[attack.select.stored], classes)
    times = {"fixed": 1, "image": images, "crafting": attack.crafting or 0}
    total = {kind: sum(times[per] * passes[per][kind] for per in times) for kind in ("forward", "backward", "rows")}
    row = ROW_BYTES + (3 * 4 * math.prod(shape) if attack.keep_images else 0)
    took = sum(total[kind] * speed[kind] for kind in ("forward", "backward"))
    return Cost(start + took, total["rows"] * row)


def asked(catalog: Catalog, job: Job) -> tuple[AttackEntry | None, list[AttackEntry]]:
    """Return the attack of a job (that which measures rho_2 where a training has one), and the attacks it reads."""
    assert job.model is not None, "a job of a model"
    if job.attack is None:
        return tracking(catalog.models[job.model].entry), []
    run = catalog.runs[job.model, job.attack]
    return catalog.attacks[job.attack], [catalog.attacks[attack] for _, attack in run.reads]


def _download(job: Job) -> Cost:
    assert job.dataset is not None, "a download has a dataset"
    source = sources.source(job.dataset)
    images = sum(source.counts.values())
    size = float(images * math.prod(source.shape)) if images else None
    return Cost(0.0 if source.embedded else None, size, "its speed is that of the connection")


def counts_of(catalog: Catalog, dataset: str) -> dict[str, int]:
    """Return the images per split of a dataset; of one that is counted in the user's folder, once it is published."""
    if counts := dict(sources.source(dataset).counts):
        return counts
    path = catalog.root / data_file(dataset, "meta.json")
    return read_json(path)["counts"] if path.is_file() else {}


def _training(
    schedule: Training, counts: dict[str, int], speed: dict[str, float], passes: dict[str, Any] | None
) -> float:
    images = min(schedule.images or counts["train"], counts["train"])
    steps = round(schedule.epochs * math.ceil(images / schedule.batch_size))
    tracked = min(schedule.track.images or counts["test"], counts["test"])
    look = speed["forward"]
    if passes is not None:
        look += sum(passes["image"][kind] * speed[kind] for kind in ("forward", "backward"))
    return images * speed["prepare"] + steps * speed["step"] + (1 + math.ceil(schedule.epochs)) * tracked * look
