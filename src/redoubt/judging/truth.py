"""The true values of a simulated world: those that a paper prints, or those of methods that do not differ.

A number is known by what it measures, so that one number in two tables is the same in every world. In a null world all
numbers that the checks of a claim compare, one with another, are equal: their level is the mean of the printed ones, or
of the plain numbers that they are compared with, or else `LEVEL`. Of a claim that methods do not differ (`opposite:
margin`) they differ by just what its checks allow.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from redoubt.judging.finished import COUNTED
from redoubt.lazily import np
from redoubt.metrics.interface import read
from redoubt.study.addresses import NUMBER, Place
from redoubt.study.catalog import Catalog
from redoubt.study.claims import Comparison, Decidable, Either
from redoubt.study.published import read_published

LEVEL = {True: 0.5, False: 1.0}
"""Of equal rates, and of other equal numbers, where nothing is printed: a rate's error is largest there."""
EQUAL = {"time-ratio": 1.0}
"""Metrics that compare two methods, and what they are where these are equal."""

Key = Hashable
Truth = Mapping[Key, float]


def key(place: Place) -> Key:
    """Return what a number measures: two places with the same one are the same number."""
    if place.metric is not None and place.value == NUMBER:
        return place.model, place.attack, place.metric, frozenset(place.conditions)
    return place.study, place.artifact, frozenset(place.where), place.value


def is_rate(place: Place) -> bool:
    """Return whether a number is a share of images."""
    if place.metric is not None and place.value == NUMBER:
        return read(place.metric).KIND == "rate"
    return place.value in COUNTED


def printed(found: Catalog, published: Mapping[str, str]) -> dict[Key, float]:
    """Return the printed numbers by what they measure.

    Args:
        found: all that exists.
        published: files of printed numbers, by study.
    """
    result: dict[Key, float] = {}
    for (study, artifact), drawn in found.artifacts.items():
        numbers = read_published(published[study], found.sources)
        for each in drawn.asked("samples"):
            cell = (artifact, str(each.cell.get("row")), str(each.cell.get("column")))
            if cell in numbers and each.along is None:
                result[each.model, each.attack, each.metric, frozenset(each.where.items())] = numbers[cell].value
    return result


@dataclass(frozen=True)
class _Link:
    """left = factor * right + offset; without a right side, left = offset."""

    left: Place
    right: Place | None
    factor: float
    offset: float


@dataclass
class _Group:
    """Numbers that are compared, one with another: each is `scale * level + shift`, by its place in `terms`."""

    terms: dict[Key, tuple[float, float]] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)

    def add(self, place: Place, scale: float, shift: float) -> None:
        self.terms[key(place)] = (scale, shift)
        self.places.append(place)

    def values(self, level: float) -> dict[Key, float]:
        return {each: scale * level + shift for each, (scale, shift) in self.terms.items()}

    def level(self, known: Mapping[Key, float]) -> float | None:
        """Return the level that fits known numbers best, None where none of the group is known."""
        fitting = [
            (known[each] - shift) / scale for each, (scale, shift) in self.terms.items() if each in known and scale
        ]
        return float(np.mean(fitting)) if fitting else None


def null(checks: Sequence[Decidable], numbers: Mapping[Key, float], margin: bool = False) -> dict[Key, float]:
    """Return the true values of a world in which a claim must not hold.

    Args:
        checks: of the claim.
        numbers: the printed ones.
        margin: whether numbers differ by just what the checks allow, in place of being equal.
    """
    links = [link for check in checks for link in _links(check, margin)]
    plain = {key(link.left): link.offset for link in links if link.right is None}
    sources = (plain, numbers) if margin else (numbers, plain)
    result: dict[Key, float] = {}
    for group in _groups([place for check in checks for place in check.places], links):
        first = group.places[0]
        level = EQUAL.get(first.metric or "")
        for known in sources:
            level = group.level(known) if level is None else level
        result |= group.values(LEVEL[is_rate(first)] if level is None else level)
    return {each: min(1.0, max(0.0, value)) if each in _rates(checks) else value for each, value in result.items()}


def _rates(checks: Sequence[Decidable]) -> set[Key]:
    return {key(place) for check in checks for place in check.places if is_rate(place)}


def _links(check: Decidable, margin: bool) -> Iterator[_Link]:
    parts = check.parts if isinstance(check, Either) else [check] if isinstance(check, Comparison) else []
    for part in parts:
        if part.right is None:
            yield _Link(part.left, None, 0.0, part.offset)
        elif not margin:
            yield _Link(part.left, part.right, 1.0, 0.0)
        else:
            low = 1.0 - part.within if part.relative else 1.0
            lower = part.offset * low - (0.0 if part.relative else part.within)
            yield _Link(part.left, part.right, part.factor * low, lower)


def _groups(places: Sequence[Place], links: Sequence[_Link]) -> Iterator[_Group]:
    """Yield the numbers that links join, directly or not; of links that contradict each other the first counts."""
    around: dict[Key, list[tuple[Place, float, float]]] = {}
    for link in links:
        if link.right is not None and link.factor:
            around.setdefault(key(link.right), []).append((link.left, link.factor, link.offset))
            around.setdefault(key(link.left), []).append((link.right, 1 / link.factor, -link.offset / link.factor))
    seen: set[Key] = set()
    for start in places:
        if key(start) in seen:
            continue
        group, waiting = _Group(), [(start, 1.0, 0.0)]
        while waiting:
            place, scale, shift = waiting.pop(0)
            if key(place) not in group.terms:
                group.add(place, scale, shift)
                waiting += [(other, f * scale, f * shift + o) for other, f, o in around.get(key(place), [])]
        seen |= set(group.terms)
        yield group
