"""A metric's value with its 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.lazily import np, pd

Z = 1.959963984540054  # two-sided 95 % of the normal distribution
RESAMPLES = 1000


class NoValue(RedoubtError):
    """A metric applies to none of the attacked images; the message is the reason."""


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval, and the numbers of images and of training runs behind it."""

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return Wilson's score interval of a rate (Wilson 1927), two numbers in [0, 1]."""
    rate, z2 = successes / n, Z * Z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # The interval holds the rate; rounding must not put it outside.
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))


def bootstrap(values: np.ndarray, summary: Callable[[np.ndarray], float] | None = None) -> tuple[float, float]:
    """Return the percentile bootstrap interval (Efron 1979) of the mean of `values` (n,), or of another summary.

    The draws are always the same.
    """
    generator, summary = np.random.default_rng(0), summary or np.mean
    found = [summary(values[generator.integers(0, len(values), len(values))]) for _ in range(RESAMPLES)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def per_image(metric: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a metric says of each image of each training run: columns seed, index, value (float64).

    Images to which the metric does not apply are left out. An image counts once, with the mean over its repetitions.
    Rows without a column `seed` are of one run, rows without `index` are numbered.

    Raises:
        NoValue: it applies to none of them.
        RedoubtError: there are no rows, they lack a column, an image has several rows, or a value is not finite.
    """
    module = registry.method("metrics", metric)
    image = [name for name in ("seed", "index", "repetition") if name in rows]
    if "index" in rows and rows.duplicated(image).any():
        raise RedoubtError(
            f"{metric}: images have several rows each; choose one value of the attack's sweep by `where`"
        )
    try:
        if hasattr(module, "applies"):
            counted = module.applies(rows)
            if len(rows) and not counted.any():
                raise NoValue(module.EMPTY)
            rows = rows[counted]
        values = np.asarray(module.values(rows), dtype=np.float64)
    except KeyError as error:
        raise RedoubtError(f"{metric}: the attack's rows have no column {error}") from None
    seeds = rows["seed"].to_numpy() if "seed" in rows else np.zeros(len(rows), dtype=np.int64)
    numbers = pd.Series(seeds).groupby(seeds).cumcount().to_numpy()
    found = pd.DataFrame({"seed": seeds, "index": rows["index"].to_numpy() if "index" in rows else numbers})
    found["value"] = values
    if "repetition" in rows:
        found = found.groupby(["seed", "index"], as_index=False)["value"].mean()
    if not len(found) or not np.isfinite(found["value"]).all():
        odd = int((~np.isfinite(found["value"])).sum())
        raise RedoubtError(f"{metric}: {len(found)} rows, {odd} of them not finite")
    return found


def estimate(metric: str, rows: pd.DataFrame) -> Estimate:
    """Return a metric over the rows of an attack, `n` being the number of images.

    Raises:
        NoValue, RedoubtError: as `per_image`.
    """
    found, module = per_image(metric, rows), registry.method("metrics", metric)
    values, summary = found["value"].to_numpy(), getattr(module, "summary", np.mean)
    interval = wilson(values.sum(), len(values)) if module.KIND == "rate" else bootstrap(values, summary)
    return Estimate(float(summary(values)), *interval, len(values), int(found["seed"].nunique()))
