"""Tests of a difference between two numbers, image by image, and Holm's correction.

The effect is always `left - factor * right - offset`, and p is two-sided, of the hypothesis that it is zero:

- two rates of one run each, without factor and offset: McNemar's test, mid-p (McNemar 1947; Fagerland et al. 2013);
- a rate against a plain number: the binomial test;
- means, and rates with a factor or offset: the mean over images of the differences, by Student's t; with fewer than
  `FEW` images and one run by flipping signs (Fisher 1935); of rates after half an image is added to each outcome
  (Agresti and Min 2005), so that no difference at all is not certainty;
- other summaries than a mean: the bootstrap's standard error, images of both sides drawn together (Efron 1979);
- images that cannot be paired: two independent samples.

With several runs the variance between them, run by run over the same images, is added to that over images, each side by
itself, and degrees of freedom are Satterthwaite's (1946). With one run a result holds given its weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from redoubt.judging.evidence import NoNumber, Run, Sample
from redoubt.judging.intervals import resampled
from redoubt.lazily import lazy, np

stats = lazy("scipy.stats")

FEW = 50
"""Below this number of images signs are flipped, in place of Student's t."""
FLIPS = 9999
RESAMPLES = 999
HALF = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])  # outcomes of two rates, each added as half an image


@dataclass(frozen=True)
class Contrast:
    """A tested difference.

    Attributes:
        effect: left - factor * right - offset.
        p: two-sided; None where no sampling error is known.
        n: images that were compared; 0 where there are none.
        runs: runs of the side that has fewer.
        test: its name, in words.
    """

    effect: float
    p: float | None
    n: int
    runs: int
    test: str


def plain(left: float, right: float, factor: float = 1.0, offset: float = 0.0) -> Contrast:
    """Return the difference of two numbers whose sampling error is not known."""
    return Contrast(left - factor * right - offset, None, 0, 0, "no sampling error known")


def against(sample: Sample, value: float) -> Contrast:
    """Test a number against a plain one.

    Raises:
        NoNumber: the sample is empty.
    """
    runs, n = _on(sample, _common(sample))
    numbers = [_number(sample, run) for run in runs]
    if sample.rate and sample.summary is None and len(runs) == 1 and 0.0 <= value <= 1.0:
        p = stats.binomtest(round(float(runs[0].sum())), n, value).pvalue
        return Contrast(numbers[0] - value, float(p), n, 1, "binomial test")
    nothing = Sample({seed: Run(None, np.zeros(n)) for seed in sample.runs}, sample.rate)
    return _tested(sample, nothing, runs, [run.values for run in nothing.runs.values()], (0.0, value), n)


def contrast(left: Sample, right: Sample, factor: float = 1.0, offset: float = 0.0) -> Contrast:
    """Test a difference of two numbers over the images that both count.

    Raises:
        NoNumber: there is no such image.
    """
    images = reduce(_both, [_common(left), _common(right)])
    if images is None:
        return _independent(left, right, factor, offset)
    (ours, n), (theirs, _) = _on(left, images), _on(right, images)
    exact = left.rate and right.rate and left.summary is None and right.summary is None
    if exact and (factor, offset) == (1.0, 0.0) and len(ours) == len(theirs) == 1:
        p = mcnemar(int((ours[0] > theirs[0]).sum()), int((ours[0] < theirs[0]).sum()))
        return Contrast(float(ours[0].mean() - theirs[0].mean()), p, n, 1, "McNemar's test")
    return _tested(left, right, ours, theirs, (factor, offset), n)


def mcnemar(first: int, second: int) -> float:
    """Return the two-sided mid-p of McNemar's test, given how often one side alone counts, and the other alone."""
    if first == second:
        return 1.0
    less, n = min(first, second), first + second
    return float(min(1.0, 2.0 * stats.binom.cdf(less, n, 0.5) - stats.binom.pmf(less, n, 0.5)))


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979), in the order in which they are given."""
    order, adjusted, highest = sorted(range(len(ps)), key=ps.__getitem__), [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted


def spearman(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return the rank correlation and its two-sided p by permutation; all of them up to 7 points, else drawn ones."""
    ranks = [stats.rankdata(values) for values in (x, y)]
    first, second = (values - values.mean() for values in ranks)
    scale = math.sqrt(float((first**2).sum() * (second**2).sum()))
    if scale == 0.0:
        return 0.0, 1.0
    found = float(first @ second) / scale
    if len(first) <= 7:
        orders = np.array(list(itertools.permutations(range(len(first)))))
    else:
        orders = np.random.default_rng(0).permuted(np.tile(np.arange(len(first)), (FLIPS, 1)), axis=1)
    extreme = int((np.abs(second[orders] @ first / scale) >= abs(found) - 1e-12).sum())
    drawn = int(len(first) > 7)  # what was found is one of the orders, and is not among those that are drawn
    return found, (extreme + drawn) / (len(orders) + drawn)


# -- samples ----------------------------------------------------------------------------------------------------------


def _both(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    if first is None or second is None:
        return None
    return first if np.array_equal(first, second) else np.intersect1d(first, second, assume_unique=True)


def _common(sample: Sample) -> np.ndarray | None:
    """Return the images that all runs count; None where they are not known."""
    return reduce(_both, [run.images for run in sample.runs.values()])


def _on(sample: Sample, images: np.ndarray | None) -> tuple[list[np.ndarray], int]:
    """Return the values of every run on some images (all where these are not known), and the number of images."""
    values = []
    for run in sample.runs.values():
        if images is None or run.images is None or len(run.images) == len(images):
            values.append(run.values)  # all of them: `images` are among those of every run
        else:
            values.append(run.values[np.isin(run.images, images)])  # both ascend
    n = min(len(own) for own in values)
    if n == 0:
        raise NoNumber("no image counts for both")
    return values, n


def _number(sample: Sample, values: np.ndarray) -> float:
    return float(values.mean() if sample.summary is None else sample.summary(values))


# -- tests ------------------------------------------------------------------------------------------------------------


def _tested(
    left: Sample,
    right: Sample,
    ours: list[np.ndarray],
    theirs: list[np.ndarray],
    terms: tuple[float, float],
    n: int,
) -> Contrast:
    """Test paired values, one array for each run of each side."""
    factor, offset = terms
    numbers = [_number(left, run) for run in ours], [_number(right, run) for run in theirs]
    effect = float(np.mean(numbers[0])) - factor * float(np.mean(numbers[1])) - offset
    between = [*_between(numbers[0], 1.0), *_between(numbers[1], factor)]
    runs = min(len(ours), len(theirs))
    if left.summary is not None or right.summary is not None:
        variance = _bootstrap(left, right, ours, theirs, factor)
        return Contrast(effect, _student(effect, [(variance, n - 1), *between]), n, runs, "bootstrap over images")
    pairs = np.stack([np.mean(ours, axis=0), np.mean(theirs, axis=0)], axis=1)
    if left.rate and right.rate:
        p = _adjusted(pairs, terms, between)
        return Contrast(effect, p, n, runs, "paired difference of rates")
    differences = pairs[:, 0] - factor * pairs[:, 1] - offset
    if n < FEW and not between:
        return Contrast(effect, _flipped(differences), n, runs, "signs flipped")
    variance = float(differences.var(ddof=1)) / n if n > 1 else math.inf
    return Contrast(effect, _student(effect, [(variance, n - 1), *between]), n, runs, "paired t-test")


def _between(numbers: list[float], factor: float) -> list[tuple[float, int]]:
    """Return the variance of a side's mean that comes from its runs, with its degrees of freedom; none for one run."""
    if len(numbers) == 1:
        return []
    return [(factor**2 * float(np.var(numbers, ddof=1)) / len(numbers), len(numbers) - 1)]


def _student(effect: float, parts: list[tuple[float, int]]) -> float:
    """Return the two-sided p of an effect whose variance is a sum of parts, each with its degrees of freedom."""
    variance = sum(part for part, _ in parts)
    if variance == 0.0:
        return 1.0 if effect == 0.0 else 2.0 ** (-min(freedom for _, freedom in parts))
    if not math.isfinite(variance):
        return 1.0
    freedom = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    return float(2.0 * stats.t.sf(abs(effect) / math.sqrt(variance), freedom))


def _adjusted(pairs: np.ndarray, terms: tuple[float, float], between: list[tuple[float, int]]) -> float:
    factor, offset = terms
    values = np.concatenate([pairs, HALF]) @ np.array([1.0, -factor]) - offset
    weights = np.concatenate([np.ones(len(pairs)), np.full(len(HALF), 0.5)])
    total = weights.sum()
    mean = float(weights @ values / total)
    variance = float(weights @ (values - mean) ** 2 / total) / total
    return _student(mean, [(variance, round(total) - 1), *between])


def _flipped(differences: np.ndarray) -> float:
    """Return the two-sided p of a mean by flipping signs: all of them up to 12 images, else drawn ones."""
    n, found = len(differences), abs(differences.sum())
    if n <= 12:
        signs, drawn = np.array(list(itertools.product((-1, 1), repeat=n))), 0
    else:
        signs, drawn = np.random.default_rng(0).choice((-1, 1), (FLIPS, n)), 1
    extreme = int((np.abs(signs @ differences) >= found * (1 - 1e-12)).sum())
    return (extreme + drawn) / (len(signs) + drawn)


def _bootstrap(left: Sample, right: Sample, ours: list[np.ndarray], theirs: list[np.ndarray], factor: float) -> float:
    """Return the variance of the effect over images, the same images being drawn for both sides and all runs."""

    def effect(drawn: np.ndarray) -> float:
        first = np.mean([_number(left, run[drawn]) for run in ours])
        return float(first - factor * np.mean([_number(right, run[drawn]) for run in theirs]))

    return float(np.var(resampled(len(ours[0]), effect, RESAMPLES), ddof=1))


def _independent(left: Sample, right: Sample, factor: float, offset: float) -> Contrast:
    """Test two numbers whose images are not known to be the same; by the variance of each side."""
    effect, parts, sizes = -offset, [], []
    for sample, weight in ((left, 1.0), (right, -factor)):
        runs, n = _on(sample, None)
        numbers = [_number(sample, run) for run in runs]
        effect += weight * float(np.mean(numbers))
        spread = float(np.mean([_spread(run, sample.rate) for run in runs]))
        parts += [(weight**2 * spread, max(1, n - 1)), *_between(numbers, weight)]
        sizes.append((n, len(runs)))
    n, runs_of = (min(size[place] for size in sizes) for place in (0, 1))
    return Contrast(effect, _student(effect, parts), n, runs_of, "two samples, not paired")


def _spread(values: np.ndarray, rate: bool) -> float:
    """Return the variance of a mean of independent values; one image is added to each outcome of a rate."""
    values = np.concatenate([values, [0.0, 1.0]]) if rate else values
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else math.inf
