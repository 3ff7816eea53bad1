"""Evidence of a finished run: numbers from the CSV files of artifacts, samples from the rows of attacks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from redoubt.errors import RedoubtError
from redoubt.judging.estimate import NoValue, per_image
from redoubt.judging.evidence import NoNumber, Run, Sample
from redoubt.judging.search import with_search
from redoubt.lazily import np, pd
from redoubt.metrics.interface import read
from redoubt.rows import picked, read_rows
from redoubt.study.addresses import NUMBER, Place
from redoubt.study.catalog import Catalog
from redoubt.study.needs import Need
from redoubt.study.published import Published

COUNTED = {"test_accuracy": "test_images"}
"""Shares in histories, and the column that says of how many images."""

SPREAD = "std_repetitions"
"""Column of the deviation between repetitions, which is what a paper prints behind a ±."""

UNSAMPLED = ("time-ratio", "largest-epsilon")
"""Metrics whose error no sample of images tells: times vary with the machine, and a largest value with one image."""


def _size_of_all(rows: pd.DataFrame) -> bool:
    """Return whether a search over all images gave those of a run one size, whose error their values do not tell."""
    return "epsilon" in rows and len(rows) > 1 and bool((rows.groupby("seed")["epsilon"].nunique() == 1).all())


def _searched(rows: pd.DataFrame, found: pd.DataFrame) -> np.ndarray | None:
    """Return the values of a run with the error of the epsilon that was searched; None where it is not known."""
    if len(rows) != len(found) or (rows["index"].to_numpy() != found["index"].to_numpy()).any():
        return None
    return with_search(rows, found["value"].to_numpy(dtype=np.float64))


class Finished:
    """The numbers of a run, and the values behind them.

    Args:
        found: all that exists at its scale.
        results: folder of the scale's results.
    """

    def __init__(self, found: Catalog, results: Path) -> None:
        self.found, self.results = found, results
        self._frame, self._rows = cache(self._read), cache(self._attacked)
        self._number, self._sample = cache(self._averaged), cache(self._sampled)  # checks share places

    def number(self, place: Place) -> float:
        """Return the number at a place; the mean over the rows that match."""
        return self._number(place)

    def points(self, place: Place, over: str) -> list[tuple[float, float]]:
        """Return the numbers of all rows that a place matches, each with its value of the column `over`."""
        rows = self._values(place).groupby(over, sort=True)[place.value].mean()
        return [(float(x), float(y)) for x, y in rows.items()]

    def sample(self, place: Place) -> Sample | None:
        """Return the values behind a number, by image and run; of a share in a history, its count."""
        return self._sample(place)

    def apart(self, place: Place) -> str | None:
        """Return why the scale's or the column's numbers may not be held against the paper's, or None."""
        if not self.found.scale.comparable:
            return self.found.scale.stamp
        rows = self._matching(place)
        if {"verdict", "published", "reason"} <= set(rows):
            rows = rows[(rows["verdict"] == "not-comparable") & rows["published"].notna()]
            return str(rows["reason"].iloc[0]) if len(rows) else None
        return None

    # -- reading ------------------------------------------------------------------------------------------------------

    def _averaged(self, place: Place) -> float:
        return float(self._values(place)[place.value].mean())

    def _sampled(self, place: Place) -> Sample | None:
        if place.value in COUNTED:
            return self._counted(place)
        if place.value != NUMBER or place.metric is None or place.attack is None:
            return None
        metric = read(place.metric)
        if place.metric in UNSAMPLED:
            return None
        rows = picked(self._rows(place.model, place.attack), dict(place.conditions))
        try:
            found = per_image(place.metric, rows)
        except NoValue as reason:
            raise NoNumber(str(reason)) from None
        runs = {}
        for seed, own in found.sort_values(["seed", "index"]).groupby("seed"):
            values: np.ndarray | None = own["value"].to_numpy(dtype=np.float64)
            if metric.KIND != "rate" and _size_of_all(rows):
                values = _searched(rows[rows["seed"] == seed].sort_values("index"), own)
            if values is None:
                return None
            runs[int(str(seed))] = Run(own["index"].to_numpy(), values)
        whole = all(np.isin(run.values, (0.0, 1.0)).all() for run in runs.values())
        return Sample(runs, metric.KIND == "rate" and whole, None if metric.averages else metric.summary)

    def _read(self, study: str, artifact: str) -> pd.DataFrame:
        path = self.results / study / f"{artifact}.csv"
        try:
            return pd.read_csv(path)
        except FileNotFoundError:
            raise NoNumber(f"{artifact} has not been drawn") from None
        except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise RedoubtError(f"{path}: not readable ({error}); draw it again") from None

    def _matching(self, place: Place, names: Mapping[str, float | str] | None = None) -> pd.DataFrame:
        frame = self._frame(place.study, place.artifact)
        for name, value in (dict(place.where) if names is None else names).items():
            frame = frame[frame[name] == value] if name in frame else frame.iloc[:0]
        return frame

    def _values(self, place: Place) -> pd.DataFrame:
        """Return the rows of a place that have a number.

        Raises:
            NoNumber: none has one; the reason is that of the CSV.
        """
        rows = self._matching(place)
        found = rows[rows[place.value].notna()] if place.value in rows else rows.iloc[:0]
        if len(found):
            return found
        if not len(rows):  # what was not run has one row, which lacks all that is swept
            rows = self._matching(place, dict(place.where[:1]))
        reasons = rows["reason"].dropna() if "reason" in rows else rows.iloc[:0]
        raise NoNumber(str(reasons.iloc[0]) if len(reasons) else f"there is no number at {place.text}")

    def _attacked(self, model: str, attack: str) -> pd.DataFrame:
        need = Need(model, attack)
        if (reason := self.found.missing(need)) is not None:
            raise NoNumber(reason)
        frames = []
        for seed, file in zip(self.found.models[model].seeds, self.found.files_of(need), strict=True):
            path = self.results / Path(file).relative_to(f"results/{self.found.config.scale}")
            if not path.exists():
                raise NoNumber(f"the rows of {attack} on {model}, seed {seed}, are not here")
            frames.append(read_rows(path).assign(seed=seed))
        return pd.concat(frames, ignore_index=True)

    def _counted(self, place: Place) -> Sample | None:
        """Return a share in a history as images, right ones and wrong ones; which is which is not known."""
        rows, runs = self._values(place), {}
        if COUNTED[place.value] not in rows or "seed" not in rows:
            return None
        for seed, share, n in zip(rows["seed"], rows[place.value], rows[COUNTED[place.value]], strict=True):
            right = round(share * n)
            runs[int(seed)] = Run(None, np.repeat([1.0, 0.0], [right, int(n) - right]))
        return Sample(runs, True) if len(runs) == len(rows) else None


class Printed:
    """The numbers that a paper prints; none has a known sampling error.

    Args:
        published: by artifact, row and column.
    """

    def __init__(self, published: Mapping[tuple[str, str, str], Published]) -> None:
        self.published = published

    def number(self, place: Place) -> float:
        """Return the printed number, or its printed deviation where a place asks for that between repetitions."""
        where = dict(place.where)
        found = self.published.get((place.artifact, str(where.get("row")), str(where.get("column"))))
        number = {NUMBER: found.value, SPREAD: found.std}.get(place.value) if found else None
        if number is None:
            raise NoNumber("the paper prints no number")
        return number

    def sample(self, place: Place) -> Sample | None:
        """Return None: what lies behind a printed number is not known."""

    def points(self, place: Place, over: str) -> list[tuple[float, float]]:
        """Refuse: papers print no series."""
        raise NoNumber("the paper prints no numbers")

    def apart(self, place: Place) -> str | None:
        """Return None: it is the paper's own."""
