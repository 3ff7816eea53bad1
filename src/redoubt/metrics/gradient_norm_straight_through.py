"""Gradient norm with peer layers as the identity on the way back: the median l2 norm over images.

For the rows of the probe peer-gradients.
"""

from __future__ import annotations

from redoubt.lazily import np, pd

KIND = "mean"
UNIT = "scientific"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["gradient_straight_through"]


def summary(values: np.ndarray) -> float:
    """Return the median of the values."""
    return np.median(values)
