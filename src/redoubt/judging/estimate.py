"""A metric's value with its 95 % confidence interval, which knows its sources of error.

Test images: Wilson's interval for a rate, a bootstrap for another mean or summary. All runs see the same images, so a
draw of images is drawn once for all runs: their errors are not independent. An epsilon that was searched is searched
again in every draw (`redoubt.judging.search`).

Training runs, where there are several: the value is the mean over runs, and Student's interval from the standard
deviation between them is added to that of images. (To draw the runs again, too, is too little for few runs: three runs
have 27 draws, none of which lies outside their range, and that holds the mean in 75 of 100 cases.) The deviation
between runs holds a little of the error of images, so that the interval is rather too wide than too narrow.

Repetitions of a random model, where there are several and one run: draws of an image alone are in the error of images
already; what draws that images share add to the deviation between repetitions is added as Student's interval. With
several runs it is in the deviation between runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from redoubt.errors import RedoubtError
from redoubt.judging.intervals import LEVELS, Interval, drawn, percentiles, resampled, student, together, wilson
from redoubt.judging.search import Search, moved, search_of
from redoubt.lazily import np, pd
from redoubt.metrics.interface import read

GIVEN = "given these weights"


class NoValue(RedoubtError):
    """A metric applies to none of the attacked images; the message is the reason."""


@dataclass(frozen=True)
class Estimate:
    """A value with its intervals.

    Attributes:
        value: the mean over runs of the metric.
        low, high: ends of the 95 % interval.
        n: number of images that count.
        seeds: number of training runs.
        over: what the interval is over, such as "test images, given these weights".
        low_90, high_90: ends of the 90 % interval, for the test of equivalence.
        std: standard deviation between runs (n - 1); None with one run.
        std_repetitions: standard deviation between repetitions (n - 1) of a random model; None with one.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1
    over: str = f"test images, {GIVEN}"
    low_90: float = field(default=math.nan)
    high_90: float = field(default=math.nan)
    std: float | None = None
    std_repetitions: float | None = None


def per_image(metric: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a metric says of each image of each training run: columns seed, index, value (float64).

    Images to which the metric does not apply are left out. An image counts once, with the mean over its repetitions.
    Rows without a column `seed` are of one run, rows without `index` are numbered.

    Raises:
        NoValue: it applies to none of them.
        RedoubtError: there are no rows, they lack a column, an image has several rows, or a value is not finite.
    """
    found = _per_row(metric, rows)
    if "repetition" in rows:
        found = found.groupby(["seed", "index"], as_index=False)["value"].mean()
    if not len(found) or not np.isfinite(found["value"]).all():
        odd = int((~np.isfinite(found["value"])).sum())
        raise RedoubtError(f"{metric}: {len(found)} rows, {odd} of them not finite")
    return found[["seed", "index", "value"]]


def _per_row(metric: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return seed, index, repetition and value of each row that counts."""
    chosen = read(metric)
    image = [name for name in ("seed", "index", "repetition") if name in rows]
    if "index" in rows and rows.duplicated(image).any():
        raise RedoubtError(
            f"{metric}: images have several rows each; choose one value of the attack's sweep by `where`"
        )
    try:
        counted = chosen.applies(rows)
        if len(rows) and not counted.any():
            raise NoValue(chosen.EMPTY)
        rows = rows[counted]
        values = np.asarray(chosen.values(rows), dtype=np.float64)
    except KeyError as error:
        raise RedoubtError(f"{metric}: the attack's rows have no column {error}") from None
    seeds = rows["seed"].to_numpy() if "seed" in rows else np.zeros(len(rows), dtype=np.int64)
    numbers = pd.Series(seeds).groupby(seeds).cumcount().to_numpy()
    found = pd.DataFrame({"seed": seeds, "index": rows["index"].to_numpy() if "index" in rows else numbers})
    found["repetition"] = rows["repetition"].to_numpy() if "repetition" in rows else 0
    return found.assign(value=values)


def estimate(metric: str, rows: pd.DataFrame) -> Estimate:
    """Return a metric (its spelling) over the rows of an attack, see above.

    Raises:
        NoValue, RedoubtError: as `per_image`.
    """
    found, chosen = per_image(metric, rows), read(metric)
    summary = np.mean if chosen.averages else chosen.summary
    runs = {seed: part for seed, part in found.groupby("seed", sort=False)}
    values = np.array([float(summary(part["value"].to_numpy())) for part in runs.values()])
    value = float(values.mean())
    searches = _searches(rows) if summary is np.mean else {}
    images = _images(metric, rows, runs, searches, chosen.KIND == "rate", summary)
    std = float(values.std(ddof=1)) if len(runs) > 1 else None
    repeated = _repetitions(metric, rows, summary)
    ends = []
    for level in LEVELS:
        own = images(level)
        halves = [] if std is None else [student(std, len(runs), level)]
        if repeated is not None and std is None:
            halves.append(student(repeated.shared, repeated.count, level))
        low, high = together(value, (min(own[0], value), max(own[1], value)), halves)
        ends.append((max(0.0, low), min(1.0, high)) if chosen.KIND == "rate" else (low, high))
    (low, high), (low_90, high_90) = ends
    over = _over(rows, len(runs), repeated is not None, bool(searches))
    n = int(found["index"].nunique())
    return Estimate(value, low, high, n, len(runs), over, low_90, high_90, std, repeated.std if repeated else None)


def _over(rows: pd.DataFrame, runs: int, repeated: bool, searched: bool) -> str:
    """Return what the interval is over, in words."""
    sources = ["measurements" if "seconds" in rows else "test images"]
    sources += ["training runs"] if runs > 1 else []
    sources += ["repetitions"] if repeated else []
    given = ["these weights"] if runs == 1 else []
    given += ["this epsilon"] if "search_share" in rows and not searched else []
    listed = sources[0] if len(sources) == 1 else f"{', '.join(sources[:-1])} and {sources[-1]}"
    return f"{listed}, given {' and '.join(given)}" if given else listed


@dataclass(frozen=True)
class _Repeated:
    """The deviation of a metric between repetitions, the part of it that images share, and how many there are."""

    std: float
    shared: float
    count: int


def _repetitions(metric: str, rows: pd.DataFrame, summary: Callable) -> _Repeated | None:
    """Return how a metric differs between repetitions within runs; None unless it has a value in two of a run."""
    if "repetition" not in rows:
        return None
    scored = _per_row(metric, rows)
    repeated = scored.groupby(["seed", "repetition"])["value"].agg(lambda part: summary(part.to_numpy()))
    count = repeated.groupby("seed").size().max()
    if count < 2:
        return None
    total = float(repeated.groupby("seed").var(ddof=1).mean())
    images = scored.groupby(["seed", "index"])["value"].var(ddof=1).dropna()
    alone = float(images.mean()) / len(images.index.unique("index")) if len(images) and summary is np.mean else 0.0
    return _Repeated(math.sqrt(total), math.sqrt(max(0.0, total - alone)), int(count))


# -- images -----------------------------------------------------------------------------------------------------------


def _images(
    metric: str,
    rows: pd.DataFrame,
    runs: dict[int, pd.DataFrame],
    searches: dict[int, Search],
    rate: bool,
    summary: Callable,
) -> Callable[[float], Interval]:
    """Return a function from a confidence to the interval over images of the mean over runs."""
    values = [part["value"].to_numpy() for part in runs.values()]
    mean = float(np.mean([part.mean() for part in values]))
    fewest = min(map(len, values))
    if rate and (not searches or mean in (0.0, 1.0)):
        # Of runs that agree image by image this is exact; of others it is wider than needed.
        successes = float(values[0].sum()) if len(values) == 1 else mean * fewest
        return lambda level: wilson(successes, fewest, level)
    if searches:
        found = _searched(metric, rows, searches)
    elif len(values) == 1 and summary is np.mean:
        found = np.concatenate([values[0][block].mean(axis=1) for block in drawn(len(values[0]))])
    elif len(values) == 1:
        found = resampled(len(values[0]), lambda places: float(summary(values[0][places])))
    else:
        found = _jointly(runs, summary)
    return partial(percentiles, found)


def _jointly(runs: dict[int, pd.DataFrame], summary: Callable) -> np.ndarray:
    """Return the mean over runs of a summary, of draws of images that all runs share."""
    table = pd.concat(runs.values()).pivot(index="index", columns="seed", values="value").to_numpy()

    def of(places: np.ndarray) -> float:
        parts = [part[~np.isnan(part)] for part in table[places].T]
        return float(np.mean([summary(part) for part in parts if len(part)]))

    return resampled(len(table), of)


def _searches(rows: pd.DataFrame) -> dict[int, Search]:
    """Return the search behind the rows of each run; nothing unless all runs have one."""
    if "search_share" not in rows or "index" not in rows or "repetition" in rows:
        return {}
    parts = rows.groupby("seed", sort=False) if "seed" in rows else [(0, rows)]
    found = {seed: search_of(part) for seed, part in parts}
    return {seed: each for seed, each in found.items() if each} if all(found.values()) else {}


def _searched(metric: str, rows: pd.DataFrame, searches: dict[int, Search]) -> np.ndarray:
    """Return the mean over runs of a metric, of draws of images in which epsilon is searched again."""
    images = np.unique(rows["index"])
    runs = []
    for seed, search in searches.items():
        own = rows[rows["seed"] == seed] if "seed" in rows else rows
        where = np.searchsorted(images, search.index)
        runs.append((search, where, *_near(metric, own, search), search.found(np.ones((1, len(own))))[0]))

    def of(block: np.ndarray) -> np.ndarray:
        counts, means = np.stack([np.bincount(places, minlength=len(images)) for places in block]).astype(float), []
        for search, where, values, counted, usual in runs:
            weights = counts[:, where]
            near = np.stack([weight @ values for weight in weights]) / np.maximum(weights @ counted, 1.0)
            factors = search.found(weights) / usual if usual else np.ones(len(block))
            means.append([np.interp(factor, search.factors, row) for factor, row in zip(factors, near, strict=True)])
        return np.asarray(means).mean(axis=0)

    return np.concatenate([of(block) for block in drawn(len(images))])


def _near(metric: str, rows: pd.DataFrame, search: Search) -> tuple[np.ndarray, np.ndarray]:
    """Return a metric on each image (n, K) at each epsilon near its own, 0 where it does not apply; and where not."""
    chosen, values = read(metric), np.zeros((len(rows), len(search.factors)))
    counted = np.ones_like(values)
    for place, factor in enumerate(search.factors):
        there = moved(rows, place, factor)
        counted[:, place] = np.asarray(chosen.applies(there), dtype=np.float64)
        values[:, place] = np.asarray(chosen.values(there), dtype=np.float64) * counted[:, place]
    return values, counted
