"""Neighbour spread: how far the K neighbours of a pixel are from their mean, as a share of their size, at the mean.

For the rows of the probe peer-gradients.
"""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["spread"]
