"""Simulated worlds: does a claim hold where there is no effect, and does it where the printed numbers are true?

The model. Every image of a dataset has one difficulty, a standard normal, which all methods share; what a method makes
of an image adds a normal that is its own, and the correlation of two methods is `COMMON`. Of this sum

- a rate counts the images below the normal quantile of its true value (Bernoulli trials, one for each image);
- a mean is over log-normal values with the true value as their mean and a coefficient of variation: that of the real
  rows, where there are any, else `VARIATION`;
- an epsilon that was searched for a share of errors is the quantile of such values, and values of a row have the error
  of the search, by its slope, as those of real rows do (`redoubt.judging.search`).

A metric over some images has as many as another rate says (`OVER`), whatever their difficulty. Of several runs each has
a true value that deviates, by `RUNS` as a share of a mean or in the normal quantile of a rate. A number whose sampling
error the tests do not know has one all the same: over the tracked images where it is a mean in a history, else a factor
with the deviation `UNKNOWN`, which all such numbers of one model under one name share (sizes of one perturbation are
made alike).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from redoubt.judging.evidence import NoNumber, Run, Sample
from redoubt.judging.finished import COUNTED, UNSAMPLED
from redoubt.judging.truth import Key, Truth, is_rate, key
from redoubt.lazily import lazy, np
from redoubt.metrics.interface import read
from redoubt.study.addresses import NUMBER, Place
from redoubt.study.catalog import Catalog
from redoubt.study.sizes import counted, selected

special = lazy("scipy.special")

COMMON = 0.9
"""Correlation of two methods over images. Where 61 and 23 of 10 000 digits were labelled correctly by one model alone,
with error rates of 1.3 and 1.7 %, it is 0.96; models that share less are taken to be less alike."""
VARIATION = 0.5
"""Standard deviation over mean of sizes of perturbations; rho_2 of digits has 0.4."""
RUNS = 0.015
"""Deviation between runs; three runs of one perceptron had this in rho_2."""
UNKNOWN = 0.05
"""Deviation of what is measured once."""
OVER = {"correct": "accuracy", "fooled": "fooling-rate(over=correct)"}
"""What metrics may be over in place of all images, and the rate that says of how many that is."""
SHARE = 0.5
"""Of images, where that rate is not printed."""
NAMES = ("label", "judge_label", "judge_clean_label", "clean_label", "fooled")
"""Columns that say what one image is taken for: no measure, so there is nothing to simulate."""


@dataclass(frozen=True)
class Design:
    """How much is measured at a scale.

    Args:
        found: all that exists there.
        variation: of a place, the coefficient of variation of its real rows, or None.
    """

    found: Catalog
    variation: Callable[[Place], float | None] = lambda _: None

    def images(self, place: Place) -> int:
        """Return how many images a number is over."""
        model = self.found.models[place.model]
        if place.attack is not None and place.value == NUMBER:
            select = self.found.attacks[place.attack].select
            return selected(select, *counted(model.dataset, select.stored))
        count, _ = counted(model.dataset, "test")
        return min(model.entry.training.track.images or count, count)

    def seeds(self, place: Place) -> tuple[int, ...]:
        """Return the runs of a place's model."""
        return self.found.models[place.model].seeds

    def dataset(self, place: Place) -> str:
        """Return the dataset whose images a place's model sees."""
        return self.found.models[place.model].dataset

    def searched(self, place: Place) -> float | None:
        """Return the share of errors that the epsilon of an attack was searched for, or None."""
        share = self.found.attacks[place.attack].parameters.get("error") if place.attack is not None else None
        return None if share is None or is_rate(place) else float(share)

    def points(self, place: Place, over: str) -> int:
        """Return how many numbers a trend has.

        Raises:
            NoNumber: that is known once they are drawn.
        """
        where = dict(place.where)
        cells = self.found.artifacts[place.study, place.artifact].asked("cells")
        models = [cell.get("model") for cell in cells if all(cell.get(name) == value for name, value in where.items())]
        if len(set(models)) < 2:
            raise NoNumber(f"how many numbers there are over {over} is known once they are drawn")
        return len(set(models))


class World:
    """One simulated world, an `Evidence`.

    Args:
        design: how much is measured.
        truth: true values by what they measure; a number that is not among them does not exist.
        shares: of images that a metric of some images applies to, by model, attack and rate.
        seed: of the world.
    """

    def __init__(self, design: Design, truth: Truth, shares: Callable[[Place], float], seed: int) -> None:
        self.design, self.truth, self.shares, self.seed = design, truth, shares, seed
        self._drawn: dict[Key, Sample] = {}
        self._normals: dict[Key, np.ndarray] = {}
        self._places: dict[int, np.ndarray] = {}

    def number(self, place: Place) -> float:
        """Return the number at a place; the mean over runs."""
        true = self._true(place)
        if place.metric in UNSAMPLED or not (place.attack or place.value.startswith("test_")):
            return true * float(np.exp(UNKNOWN * self._normal((place.model, place.value, place.metric), 1)[0]))
        sample = self._sample(place)
        return float(np.mean([run.values.mean() for run in sample.runs.values()]))

    def sample(self, place: Place) -> Sample | None:
        """Return the values behind the number at a place; None where the tests do not know its sampling error."""
        self._true(place)
        if place.value in COUNTED:
            drawn = self._sample(place)
            return Sample({seed: Run(None, run.values) for seed, run in drawn.runs.items()}, True)
        known = place.attack is not None and place.value == NUMBER and place.metric not in UNSAMPLED
        return self._sample(place) if known else None

    def points(self, place: Place, over: str) -> list[tuple[float, float]]:
        """Return the numbers of a trend; the values of the column `over` are taken to be distinct."""
        count, true = self.design.points(place, over), self._true(place)
        n, rate = self.design.images(place), is_rate(place)
        found = []
        for point in range(count):
            latent = self._latent(place, n, (key(place), point))
            values = latent < special.ndtri(true) if rate else _sizes(latent, true, VARIATION)
            found.append((float(point), float(values.mean())))
        return found

    def apart(self, place: Place) -> str | None:
        """Return None: a simulated number is what it is asked to be."""

    # -- draws ---------------------------------------------------------------------------------------------------------

    def _true(self, place: Place) -> float:
        if place.value in NAMES:
            raise NoNumber(f"{place.value} says what one image is taken for, which is not simulated")
        if key(place) not in self.truth:
            raise NoNumber("the paper prints no number")
        return self.truth[key(place)]

    def _normal(self, name: Key, n: int) -> np.ndarray:
        """Return standard normals (n,) that belong to a name; the first of them do not depend on their number."""
        if name not in self._normals or len(self._normals[name]) < n:
            generator = np.random.default_rng([self.seed, zlib.crc32(repr(_ordered(name)).encode())])
            self._normals[name] = generator.standard_normal(n, dtype=np.float32)
        return self._normals[name][:n]

    def _latent(self, place: Place, n: int, name: Key, kind: str = "values") -> np.ndarray:
        """Return what a method makes of the first images (n,): their difficulty and what is its own."""
        common, own = self._normal((kind, self.design.dataset(place)), n), self._normal((kind, name), n)
        return np.float32(COMMON**0.5) * common + np.float32((1 - COMMON) ** 0.5) * own

    def _sample(self, place: Place) -> Sample:
        name = key(place)
        if name not in self._drawn:
            runs = {seed: self._run(place, seed) for seed in self.design.seeds(place)}
            self._drawn[name] = Sample(runs, is_rate(place))
        return self._drawn[name]

    def _run(self, place: Place, seed: int) -> Run:
        n, true, rate = self.design.images(place), self._true(place), is_rate(place)
        several = len(self.design.seeds(place)) > 1
        moved = RUNS * float(self._normal((key(place), seed, "run"), 1)[0]) if several else 0.0
        latent = self._latent(place, n, (key(place), seed))
        images = self._applies(place, n, seed)
        if rate:
            values = (latent < special.ndtri(true) + moved).astype(np.float64)
        elif (share := self.design.searched(place)) is not None:
            values = _with_search(latent, true * np.exp(moved), self._variation(place), share)
        else:
            values = _sizes(latent, true * np.exp(moved), self._variation(place))
        return Run(images, values if len(images) == n else values[images])

    def _variation(self, place: Place) -> float:
        found = self.design.variation(place)
        return VARIATION if found is None else found

    def _applies(self, place: Place, n: int, seed: int) -> np.ndarray:
        """Return the images that a metric applies to; at least one."""
        if (behind := _rate_behind(place)) is None:
            return self._places.setdefault(n, np.arange(n))
        latent = self._latent(place, n, (*behind, seed), "applies")
        images = np.flatnonzero(latent < special.ndtri(self.shares(place)))
        return images if len(images) else np.array([int(latent.argmin())])


def _rate_behind(place: Place) -> tuple[str, str | None, str] | None:
    """Return model, attack and metric of the rate that says over how many images a number is; None where over all."""
    rate = OVER.get(getattr(read(place.metric), "over", "")) if place.metric is not None else None
    return None if rate is None else (place.model, None if rate == "accuracy" else place.attack, rate)


def _ordered(name: Key) -> Key:
    """Return a key with its sets in order, so that it is written alike in every process."""
    if isinstance(name, frozenset):
        return tuple(sorted(name, key=repr))
    return tuple(_ordered(part) for part in name) if isinstance(name, tuple) else name


def _deviation(variation: float) -> float:
    return float(np.sqrt(np.log1p(variation**2)))


def _sizes(latent: np.ndarray, mean: float, variation: float) -> np.ndarray:
    """Return log-normal values (n,) with a mean and a coefficient of variation."""
    deviation = _deviation(variation)
    return np.asarray(mean * np.exp(deviation * latent.astype(np.float64) - deviation**2 / 2))


def _with_search(latent: np.ndarray, true: float, variation: float, share: float) -> np.ndarray:
    """Return values (n,) whose mean is a searched epsilon, and whose variance is that of the search.

    Of an image that is wrong at epsilon where its log-normal threshold is below, the error rate has in log epsilon the
    slope phi(q) / s, with q the normal quantile of the share and s the thresholds' deviation.
    """
    deviation, quantile = _deviation(variation), float(special.ndtri(share))
    found = float(np.quantile(latent, share))
    epsilon = true * float(np.exp(deviation * (found - quantile)))
    wrong = (latent <= found).astype(np.float64)
    slope = float(np.exp(-(quantile**2) / 2) / np.sqrt(2 * np.pi)) / deviation
    return np.asarray(epsilon * (1.0 - (wrong - wrong.mean()) / slope))


def shares(numbers: Mapping[Key, float], places: Sequence[Place], equal: bool) -> Callable[[Place], float]:
    """Return a function to the share of images that a metric of some images applies to.

    Args:
        numbers: printed ones, by what they measure.
        places: numbers of a claim.
        equal: whether all models of the claim have the same share, the mean of the printed ones.
    """
    models = dict.fromkeys(place.model for place in places)
    known: dict[tuple[str, str | None, str], float] = {}
    for name, value in numbers.items():
        if isinstance(name, tuple) and len(name) == 4:
            model, attack, metric, _ = name
            known.setdefault((model, attack, metric), value)
            known.setdefault((model, None, metric), value)

    def of(place: Place) -> float:
        _, attack, rate = _rate_behind(place) or (None, None, "")
        rates = [(model, attack, rate) for model in (models if equal else [place.model])]
        own = [known[rate] for rate in rates if rate in known]
        return float(np.mean(own)) if own else SHARE

    return of
