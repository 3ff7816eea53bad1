"""Intervals of one source of error, and of several together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from redoubt.lazily import lazy, np

special = lazy("scipy.special")

LEVELS = (0.95, 0.90)
"""Confidences, two-sided: that of the printed interval, and that of the test of equivalence (two one-sided of 5 %)."""
Z = {0.95: 1.959963984540054, 0.90: 1.6448536269514722}
"""Two-sided quantiles of the normal distribution."""
RESAMPLES = 1000
BLOCK = 2**20
"""Places that are drawn at once: 8 MiB."""

Interval = tuple[float, float]


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a rate (Wilson 1927), two numbers in [0, 1]."""
    rate, z2 = successes / n, Z[level] ** 2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z[level] * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # The interval holds the rate; rounding must not put it outside.
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))


def drawn(count: int, draws: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Yield draws (some, count) with replacement of the places 0 to `count` - 1, in all `draws`, always the same."""
    generator, most = np.random.default_rng(0), max(1, BLOCK // count)
    for first in range(0, draws, most):
        yield generator.integers(0, count, (min(most, draws - first), count))


def resampled(count: int, statistic: Callable[[np.ndarray], float], draws: int = RESAMPLES) -> np.ndarray:
    """Return a statistic (draws,) of each of the draws `drawn`."""
    return np.array([statistic(places) for block in drawn(count, draws) for places in block])


def percentiles(found: np.ndarray, level: float = 0.95) -> Interval:
    """Return the percentile interval of a bootstrap (Efron 1979)."""
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap(values: np.ndarray, summary: Callable[[np.ndarray], float] | None = None) -> Interval:
    """Return the percentile bootstrap interval of the mean of `values` (n,), or of another summary."""
    of = summary or np.mean
    return percentiles(resampled(len(values), lambda places: float(of(values[places]))))


def student(spread: float, count: int, level: float) -> float:
    """Return the half-width of Student's interval of a mean.

    Args:
        spread: standard deviation of what is averaged (n - 1).
        count: how many there are, at least 2.
        level: confidence.
    """
    return float(special.stdtrit(count - 1, (1 + level) / 2)) * spread / math.sqrt(count)


def together(value: float, interval: Interval, halves: Iterable[float]) -> Interval:
    """Return the interval of a value with several independent sources of error (Zou and Donner 2008, MOVER).

    Distances from the value add as squares; with one source the interval is that of this source.

    Args:
        value: the estimate.
        interval: of the first source.
        halves: half-widths of the others.
    """
    more = [half for half in halves if half]
    if not more:
        return interval
    below, above = (math.hypot(value - interval[0], *more), math.hypot(interval[1] - value, *more))
    return value - below, value + above
