"""Probability that the model assigns to its prediction on the attacked image."""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "plain"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["probability_adversarial"]
