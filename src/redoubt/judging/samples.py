"""What lies behind a number of a table or figure: its value on every image, in every training run.

For paired tests. Two samples are paired by `index`, the position of an image in its test split, and runs by `seed`:

    left, right = (sample(found, "deepdefense", "table-1", {"row": row, "column": "Acc."}) for row in rows)
    both = left.values.merge(right.values, on=["seed", "index"], suffixes=("_left", "_right"))

A metric that applies to some images only has the values of these; the merge keeps the images that both have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError
from redoubt.judging.estimate import per_image
from redoubt.lazily import pd
from redoubt.rows import picked, read_rows
from redoubt.study.catalog import Catalog
from redoubt.study.needs import Need, Sampled


class NoSample(RedoubtError):
    """There are no rows; the message is the reason."""


@dataclass(frozen=True)
class Sample:
    """A metric on each image: `values` has columns seed, index, value (float64), one row per image and run."""

    metric: str
    model: str
    attack: str
    values: pd.DataFrame


def sources(found: Catalog, study: str, artifact: str) -> list[Sampled]:
    """Return what every number of an artifact is made of; nothing for a plot that does not say so."""
    return found.artifacts[study, artifact].asked("samples")


def source(found: Catalog, study: str, artifact: str, where: Mapping[str, Any]) -> Sampled:
    """Return what the number of an artifact is made of whose columns have the values of `where`.

    Raises:
        RedoubtError: there is none, or there are several.
    """
    fitting = list(_fitting(sources(found, study, artifact), where))
    if len(fitting) != 1:
        place = ", ".join(f"{name} = {value}" for name, value in where.items())
        raise RedoubtError(f"{artifact}: {len(fitting) or 'no'} numbers have rows of images where {place}; name one")
    return fitting[0]


def _fitting(known: list[Sampled], where: Mapping[str, Any]) -> Iterator[Sampled]:
    for each in known:
        swept = {each.along: where[each.along]} if each.along is not None and each.along in where else {}
        if all(each.cell.get(name) == value for name, value in where.items() if name != each.along):
            yield Sampled(each.cell, each.model, each.attack, each.metric, {**each.where, **swept}, each.along)


def sample(found: Catalog, study: str, artifact: str, where: Mapping[str, Any], root: Path = Path()) -> Sample:
    """Return the values behind the number of an artifact whose columns have the values of `where`.

    Args:
        found: all that exists.
        study: its id.
        artifact: its id.
        where: columns of the artifact's CSV and their values, as a claim names a number: row and column of a table;
            panel, model, measure and the swept value of lines.
        root: folder that `results/` lies in.

    Raises:
        NoSample: the rows cannot be made here, or the attack has not been run.
        RedoubtError: no number, or several, have these values, or the rows are not readable.
    """
    origin = source(found, study, artifact, where)
    need = Need(origin.model, origin.attack)
    if (reason := found.missing(need)) is not None:
        raise NoSample(reason)
    frames = []
    for seed, file in zip(found.models[need.model].seeds, found.files_of(need), strict=True):
        if not (root / file).exists():
            raise NoSample(f"{origin.attack} has not been run on {origin.model}, seed {seed}")
        frames.append(read_rows(root / file).assign(seed=seed))
    rows = picked(pd.concat(frames, ignore_index=True), origin.where)
    return Sample(origin.metric, origin.model, origin.attack, per_image(origin.metric, rows))
