"""Fractions as configuration and commands write them, such as 8/255."""

from __future__ import annotations

import re
from fractions import Fraction

_PART = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
FRACTION = rf"[-+]?{_PART}/{_PART}"
"""Pattern of a fraction, such as 8/255, that is a number in YAML here; in quotes it is text."""


def is_fraction(text: str) -> bool:
    """Tell whether a text is a fraction."""
    return re.fullmatch(FRACTION, text) is not None


def fraction(text: str) -> float:
    """Return the number nearest to a fraction.

    Raises:
        ValueError: its denominator is 0.
    """
    above, below = (Fraction(part) for part in text.split("/"))
    if below == 0:
        raise ValueError(f"{text}: the denominator is 0")
    return float(above / below)
