"""Claims as the config writes them, to checks that can be decided: unrolled, and every number found.

- each: {net: [mnist-mlp, mnist-lenet], other: [reference, parseval]}
  compare: "table-1[{net}-deepdefense, rho_2] > 2 * [{net}-{other}]"
- {compare: "table-1[a, Acc.] = [b] within 0.001"}
- {compare: "table-1[a, {column}] < 0.5", some: {column: [Acc., Acc.@0.5]}}
- {best: "table-1[a, rho_2]", among: [a, b, c]}
- {trend: "figure-4[lambda=5, test_accuracy]", over: c, sign: rising}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from redoubt.errors import RedoubtError
from redoubt.study.addresses import Address, Place, read_address
from redoubt.study.config import Check, Scalar, Values
from redoubt.study.expand import combined

Relation = Literal[">", ">=", "<", "<=", "="]
Find = Callable[[Address, str | None], Place]
"""Return the place of an address, for a trend over a column; raise RedoubtError where there is none."""

COMPARE = re.compile(
    r"(?P<left>[^][<>=]+\[[^]]*\])\s*(?P<relation>>=|<=|>|<|=)\s*"
    r"(?:(?P<factor>[0-9.]+)\s*\*\s*)?(?P<right>[^][<>=]*\[[^]]*\]|[0-9.]+)"
    r"\s*(?:(?P<sign>[+-])\s*(?P<offset>[0-9.]+)\s*)?(?:within\s+(?P<within>[0-9.]+)\s*(?P<percent>%)?\s*)?"
)
NAME = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Comparison:
    """`left` stands in a relation to `factor` times `right` plus `offset`.

    `right` is None for a plain number, which is then the offset. With `=` the difference is at most `within`, a share
    of the right side where `relative`.
    """

    text: str
    left: Place
    relation: Relation
    right: Place | None
    factor: float = 1.0
    offset: float = 0.0
    within: float = 0.0
    relative: bool = False

    @property
    def places(self) -> list[Place]:
        """The numbers that it reads."""
        return [self.left] if self.right is None else [self.left, self.right]

    @property
    def dataset(self) -> str:
        """What tables call the dataset that it is decided on."""
        return self.left.dataset


@dataclass(frozen=True)
class Trend:
    """Numbers rise or fall with another column of their rows."""

    text: str
    place: Place
    over: str
    sign: Literal["rising", "falling"]

    @property
    def places(self) -> list[Place]:
        """The numbers that it reads."""
        return [self.place]

    @property
    def dataset(self) -> str:
        """What tables call the dataset that it is decided on."""
        return self.place.dataset


@dataclass(frozen=True)
class Either:
    """At least one of some comparisons is true."""

    text: str
    parts: tuple[Comparison, ...]

    @property
    def places(self) -> list[Place]:
        """The numbers that it reads."""
        return [place for part in self.parts for place in part.places]

    @property
    def dataset(self) -> str:
        """What tables call the dataset that it is decided on."""
        return self.parts[0].dataset


Decidable = Comparison | Trend | Either


@dataclass(frozen=True)
class Resolved:
    """A claim with the checks that its entries stand for."""

    statement: str
    where: str
    open: str | None
    checks: tuple[Decidable, ...]
    opposite: Literal["equal", "margin"] = "equal"


def decidable(check: Check, find: Find) -> Iterator[Decidable]:
    """Yield the checks that an entry stands for, in order.

    Raises:
        RedoubtError: it is not readable, or a number has no place; the message says which.
    """
    _all_used(check)
    for values in _combinations(check.each):
        if check.compare is not None:
            yield _either([_fill(check.compare, values | more) for more in _combinations(check.some)], find)
        elif check.best is not None:
            yield from _best(check, values, find)
        elif check.trend is not None and check.over is not None and check.sign is not None:
            place = find(read_address(_fill(check.trend, values)), check.over)
            yield Trend(f"{place.text} {check.sign} with {check.over}", place, check.over, check.sign)


def _combinations(given: Values) -> Iterator[dict[str, str]]:
    """Yield every combination of the values, as text."""
    for values in combined(given):
        yield {name: _text(value) for name, value in values.items()}


def _text(value: Scalar) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _all_used(check: Check) -> None:
    text = " ".join(filter(None, [check.compare, check.best, check.trend, *check.among]))
    for key, given in (("each", check.each), ("some", check.some)):
        for name in (name for names in given for name in names.split()):
            if f"{{{name}}}" not in text:
                raise RedoubtError(f"{key}.{name}: nothing says {{{name}}}")


def _either(texts: list[str], find: Find) -> Comparison | Either:
    parts = tuple(_comparison(text, find) for text in texts)
    if len(parts) == 1:
        return parts[0]
    if len({part.dataset for part in parts}) > 1:
        raise RedoubtError(f"{texts[0]!r} or another: they are on several datasets")
    return Either(" or ".join(part.text for part in parts), parts)


def _fill(text: str, values: dict[str, str]) -> str:
    for name in NAME.findall(text):
        if name not in values:
            raise RedoubtError(f"{text!r}: {{{name}}} has no values; give them as each: {{{name}: [...]}}")
    return NAME.sub(lambda match: values[match[1]], text)


def _comparison(text: str, find: Find) -> Comparison:
    match = COMPARE.fullmatch(text.strip())
    if match is None:
        raise RedoubtError(f"{text!r} is no comparison; write it as NUMBER > FACTOR * NUMBER + OFFSET")
    if (match["relation"] == "=") != (match["within"] is not None):
        raise RedoubtError(f"{text!r}: = is decided within a margin, and nothing else is; write = ... within 0.01")
    address, right = read_address(match["left"]), match["right"]
    left = find(address, None)
    offset = _number(match["offset"] or "0", text) * (-1.0 if match["sign"] == "-" else 1.0)
    factor = _number(match["factor"] or "1", text)
    place = find(read_address(right, address), None) if "[" in right else None
    if place is None:
        offset, factor = offset + factor * _number(right, text), 1.0
    within = _number(match["within"] or "0", text) / (100.0 if match["percent"] else 1.0)
    relation: Relation = match["relation"]  # type: ignore[assignment]  # one of them by the pattern
    return Comparison(text.strip(), left, relation, place, factor, offset, within, match["percent"] is not None)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RedoubtError(f"{whole!r}: {text!r} is not a number") from None


def _best(check: Check, values: dict[str, str], find: Find) -> Iterator[Comparison]:
    """Yield a comparison with each other row: highest, or lowest where the entry says so."""
    own = read_address(_fill(check.best or "", values))
    relation: Relation = "<" if check.lowest else ">"
    others = [other for other in (_fill(other, values) for other in check.among) if other != own.values[0]]
    if not others:
        raise RedoubtError(f"{own}: among names no other row")
    for other in others:
        yield _comparison(f"{own} {relation} [{other}]", find)
