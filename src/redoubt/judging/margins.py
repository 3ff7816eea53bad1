"""How near a number must be to a printed one to count as the same: a rule over printed numbers alone.

A margin that another method's printed number would meet tells methods apart no better than chance. So numbers are
grouped into blocks, one for each artifact, column and set of rows whose labels (dataset and network) agree, and the
margin of a cell is half of the smallest difference between two printed numbers of its block that are not equal, plus
half a unit of its last printed digit, but always less than that difference. It is never more than the tolerance of
`verdict` in config/config.yaml, plus half a unit; in a block of one method, or of equal numbers, it is that.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

from redoubt.study.entries.artifact import Verdict
from redoubt.study.published import Published

EQUAL = 1e-9
"""Printed numbers that differ by less, relative to their size, are the same number spelt differently."""


def margin(printed: Published, block: Iterable[Published], kind: Literal["rate", "mean"], tolerance: Verdict) -> float:
    """Return how far a value may be from a printed one, in its unit.

    Args:
        printed: the number of the cell.
        block: the numbers of the cell's block, its own included.
        kind: of the metric; the tolerance is absolute for rates, relative for means.
        tolerance: the most that is allowed.
    """
    widest = tolerance.rate if kind == "rate" else tolerance.mean * abs(printed.value)
    gap = smallest_difference(number.value for number in block)
    if gap is None:
        return widest + printed.half_unit
    return min(min(widest, gap / 2) + printed.half_unit, gap * (1 - EQUAL))


def smallest_difference(values: Iterable[float]) -> float | None:
    """Return the smallest difference of two values that are not equal; None where there is none."""
    gaps = [after - before for before, after in pairwise(sorted(values)) if after - before > EQUAL * abs(after)]
    return min(gaps) if gaps else None
