"""Addresses of numbers, such as `table-1[mnist-mlp-deepdefense, rho_2]` or `figure-7[lenet5, fooling-rate, rho=0.04]`.

Before the bracket is an artifact of the study; in it are the values of the columns that its plot names in `ADDRESS`
(in `address(parameters)`, where they depend on its parameters), in order, then columns by name. Where these are a
single column, the last value names the column of the number. The right side of a comparison may leave out what it has
in common with the left: `table-1[a, rho_2] > [b]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from redoubt.errors import RedoubtError
from redoubt.study.fractions import fraction, is_fraction

NUMBER = "reproduced"
"""Column of the number where the address does not name one."""
ADDRESS = re.compile(r"\s*(?P<artifact>[a-z0-9][a-z0-9.-]*|)\[(?P<keys>[^][]*)\]\s*")


@dataclass(frozen=True)
class Address:
    """An address as it is written."""

    artifact: str
    values: tuple[str, ...]
    named: tuple[tuple[str, float | str], ...]

    def __str__(self) -> str:
        named = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in self.named]
        return f"{self.artifact}[{', '.join([*self.values, *named])}]"


@dataclass(frozen=True)
class Place:
    """A number of an artifact, found among the rows that its plot will draw.

    Attributes:
        text: the address.
        study: its study.
        artifact: its artifact.
        where: columns of the artifact's CSV with the values that name the row.
        value: column of the number.
        model: model that it is measured on.
        dataset: what tables call the dataset of that model.
        attack: attack whose rows are behind the number; None where there are none.
        metric: metric over these rows.
        conditions: columns of these rows with the values that are counted.
    """

    text: str
    study: str
    artifact: str
    where: tuple[tuple[str, float | str], ...]
    value: str
    model: str
    dataset: str
    attack: str | None = None
    metric: str | None = None
    conditions: tuple[tuple[str, float | str], ...] = field(default=())


def read_address(text: str, left: Address | None = None) -> Address:
    """Return an address; without an artifact it is `left`, the other side of a comparison, with some values changed.

    Raises:
        RedoubtError: it is none.
    """
    match = ADDRESS.fullmatch(text)
    if match is None or (left is None and not match["artifact"]):
        raise RedoubtError(f"{text.strip()!r} is no address; write it as artifact[row, column, further=value]")
    values: list[str] = []
    named: list[tuple[str, float | str]] = []
    for part in (part.strip() for part in match["keys"].split(",")):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not part or (sign and not (name and value)) or (named and not sign):
            raise RedoubtError(f"{text.strip()!r}: {part!r} is no key; write values first, then name=value")
        if sign:
            named.append((name, _value(value)))
        else:
            values.append(part)
    if left is None or match["artifact"]:
        return Address(match["artifact"], tuple(values), tuple(named))
    return Address(
        left.artifact, (*values, *left.values[len(values) :]), tuple((dict(left.named) | dict(named)).items())
    )


def _value(text: str) -> float | str:
    try:
        return fraction(text) if is_fraction(text) else float(text)
    except ValueError:
        return text
