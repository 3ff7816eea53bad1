"""What a job costs, from measured rates: seconds and bytes.

Nothing here imports torch; `redoubt.cost.measure` measures what the costs are made of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from redoubt.data import sources
from redoubt.files import canonical_json, read_json
from redoubt.graph.jobs import Job, Jobs
from redoubt.layout import data_file
from redoubt.study.catalog import Catalog

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


def model_key(job: Job) -> str:
    """Return what decides how fast a model is trained and asked: its entry but for numbers that change values alone.

    Of a defense's parameters whole numbers (steps, peers, draws) and names count, fractions (weights of a term) do not.
    """
    entry = job.entry
    defense, training = entry["defense"], entry["training"]
    given = defense.get("parameters", {})
    amounts = {key: value for key, value in given.items() if not isinstance(value, float)}
    kept = {key: training.get(key) for key in ("batch_size", "optimizer", "augmentation")}
    parts = [entry["dataset"], entry["network"], entry["preprocessing"]["name"], defense["name"], amounts, kept]
    return "model " + canonical_json([*parts, entry.get("start") is not None])


def attack_key(entry: dict[str, Any], read: list[dict[str, Any]], dataset: str) -> str:
    """Return what decides how many passes an attack takes: its entry but for the number of images."""
    kept = {key: value for key, value in entry.items() if key not in ("id", "select", "keep_images", "crafting")}
    rhos = [source.get("parameters", {}).get("rhos") for source in read]
    return "attack " + canonical_json([kept, entry.get("crafting") is None, rhos, *facts(dataset)])


def tracking(job: Job) -> dict[str, Any] | None:
    """Return the attack that measures rho_2 after every epoch, as an attack's entry; None where nothing does."""
    training = job.entry["training"]
    probes = [probe.get("parameters", {}) for probe in training.get("probes", []) if probe["probe"] == "rho-2"]
    if (deepfool := training.get("track", {}).get("deepfool")) is not None:
        probes.append(deepfool)
    if not probes:
        return None
    fixed = {"engine": "redoubt", "space": "preprocessed", "draws": 1, "repetitions": 1, "crafting": None}
    return {**fixed, "id": "track", "attack": "deepfool", "parameters": probes[0]}


# -- what follows ------------------------------------------------------------------------------------------------------


def cost(jobs: Jobs, job: Job, rates: dict[str, Any]) -> Cost:
    """Return what one job costs, from measured `rates` by key."""
    start = rates.get(f"start {job.step}")
    if job.step == "download":
        return _download(job)
    if job.model is None:
        return Cost(start, 0.0)
    training = jobs.training(job)
    counts = dict(sources.source(job.dataset).counts) or _published(jobs.catalog, job.dataset)
    speed = rates.get(model_key(training))
    if not counts or speed is None or start is None:
        return Cost(None, None, "its images are not counted yet" if not counts else "its model was not measured")
    if job is training:
        tracked = tracking(job)
        passes = rates.get(attack_key(tracked, [], job.dataset)) if tracked else None
        return Cost(start + _training(job.entry["training"], counts, speed, passes), speed["bytes"])
    if (passes := rates.get(attack_key(job.entry, read(jobs, job), job.dataset))) is None:
        return Cost(None, None, "its passes cannot be counted")
    shape, classes = facts(job.dataset)
    images = selected(job.entry.get("select", {}), counts["test"], classes)
    times = {"fixed": 1, "image": images, "crafting": job.entry.get("crafting") or 0}
    total = {kind: sum(times[per] * passes[per][kind] for per in times) for kind in ("forward", "backward", "rows")}
    row = ROW_BYTES + (3 * 4 * math.prod(shape) if job.entry.get("keep_images") else 0)
    took = sum(total[kind] * speed[kind] for kind in ("forward", "backward"))
    return Cost(start + took, total["rows"] * row)


def read(jobs: Jobs, job: Job) -> list[dict[str, Any]]:
    """Return the entries of the attacks whose rows an attack reads."""
    return [jobs.makers[file].entry for file in job.inputs["reads"]]


def _download(job: Job) -> Cost:
    source = sources.source(job.dataset)
    images = sum(source.counts.values())
    size = float(images * math.prod(source.shape)) if images else None
    return Cost(0.0 if source.embedded else None, size, "its speed is that of the connection")


def _published(catalog: Catalog, dataset: str) -> dict[str, int]:
    """Return the images per split of a dataset that is counted in the user's folder, once it is published."""
    path = catalog.root / data_file(dataset, "meta.json")
    return read_json(path)["counts"] if path.is_file() else {}


def _training(
    schedule: dict[str, Any], counts: dict[str, int], speed: dict[str, float], passes: dict[str, Any] | None
) -> float:
    images = min(schedule.get("images") or counts["train"], counts["train"])
    steps = round(schedule["epochs"] * math.ceil(images / schedule["batch_size"]))
    tracked = min(schedule.get("track", {}).get("images") or counts["test"], counts["test"])
    look = speed["forward"]
    if passes is not None:
        look += sum(passes["image"][kind] * speed[kind] for kind in ("forward", "backward"))
    return images * speed["prepare"] + steps * speed["step"] + (1 + math.ceil(schedule["epochs"])) * tracked * look


def selected(select: dict[str, Any], images: int, classes: int) -> int:
    """Return about how many test images an attack selects; classes are taken to be even."""
    if select.get("label") is not None:
        images = math.ceil(images / classes)
    if select.get("not_label") is not None:
        images = math.ceil(images * (1 - 1 / classes))
    return min(select.get("images") or images, images)
