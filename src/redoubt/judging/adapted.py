"""Evidence of a finished run under strong attacks: what its cells say in their column `adaptive`.

A number without an attack (accuracy on clean images, times) stands as it is. One under an attack that no suite of the
study answers is none: the claim is then not comparable, which is told from one that was not run.
"""

from __future__ import annotations

from dataclasses import replace

from redoubt.judging.evidence import UNANSWERED, NoNumber, Sample
from redoubt.judging.finished import COUNTED, Finished
from redoubt.metrics.interface import read
from redoubt.study.addresses import NUMBER, Place


class Adapted:
    """The numbers of a run under strong attacks.

    Args:
        ours: the numbers as they were reproduced.
    """

    def __init__(self, ours: Finished) -> None:
        self.ours = ours

    def number(self, place: Place) -> float:
        """Return what strong attacks leave of the number at a place; the mean over the rows that match."""
        if stands(place):
            return self.ours.number(place)
        self._answered(place)
        try:
            return self.ours.number(replace(place, value="adaptive"))
        except NoNumber:
            raise NoNumber("strong attacks were not run, or found no example of some images") from None

    def sample(self, place: Place) -> Sample | None:
        """Return the values behind the number at a place, by image and run."""
        return self.ours.sample(place if stands(place) else self._answered(place))

    def points(self, place: Place, over: str) -> list[tuple[float, float]]:
        """Return the numbers of all rows that a place matches; suites answer single cells alone."""
        if not stands(place):
            raise NoNumber(f"{UNANSWERED} {place.text}")
        return self.ours.points(place, over)

    def apart(self, place: Place) -> str | None:
        """Return None: these numbers are held against each other, at any scale."""

    def _answered(self, place: Place) -> Place:
        """Return the place whose rows are those of strong attacks."""
        if (answer := self.ours.found.answer(place)) is None:
            raise NoNumber(f"{UNANSWERED} {place.text}")
        return replace(place, attack=answer.attack, conditions=tuple(answer.where.items()))


def stands(place: Place) -> bool:
    """Return whether a number has nothing to do with an attack: it is of clean images, or a time."""
    if place.value in COUNTED:
        return True
    if place.value != NUMBER or place.metric is None:
        return False
    return place.attack is None or getattr(read(place.metric), "at", None) == "clean"
