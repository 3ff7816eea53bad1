"""Where the numbers of claims come from: finished rows, printed numbers, or a simulated world.

A claim is decided by `redoubt.judging.claims` from an `Evidence` alone. Two kinds of number are told apart: one with a
sample behind it (an image is a draw from the test images, a run one from the runs), and one of which no sampling error
is known (a ratio of times, the entropy of one perturbation, what a paper prints).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from redoubt.lazily import np
from redoubt.study.addresses import Place

UNANSWERED = "no suite of strong attacks answers"
"""How the reason begins why there is no number under strong attacks, where none were asked for."""


class NoNumber(Exception):
    """A number that a check needs does not exist; the message is the reason."""


@dataclass(frozen=True)
class Run:
    """The images of one run of a model that a metric applies to.

    Attributes:
        images: their places in the test images (n,), distinct and ascending; None where they are not known, so that
            nothing can be paired.
        values: a number for each image (n,), or several (n, k) where `Sample.summary` needs them.
    """

    images: np.ndarray | None
    values: np.ndarray


@dataclass(frozen=True)
class Sample:
    """The values behind a number, by run.

    Attributes:
        runs: by seed.
        rate: whether every value is 0 or 1.
        summary: of the values of a run to its number; their mean when None.
    """

    runs: dict[int, Run]
    rate: bool
    summary: Callable[[np.ndarray], float] | None = None


class Evidence(Protocol):
    """A source of numbers. Every method raises `NoNumber` with the reason where there is none."""

    def number(self, place: Place) -> float:
        """Return the number at a place; the mean over runs."""

    def sample(self, place: Place) -> Sample | None:
        """Return the values behind the number at a place; None where its sampling error is not known."""

    def points(self, place: Place, over: str) -> list[tuple[float, float]]:
        """Return the numbers of all rows that a place matches as pairs: the row's column `over`, and the number."""

    def apart(self, place: Place) -> str | None:
        """Return why the number at a place may not be compared with a paper's, or None."""
