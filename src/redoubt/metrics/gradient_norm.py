"""Gradient norm: the median l2 norm of the input gradient of the log-odds at the label.

For the rows of the probe peer-gradients.
"""

from __future__ import annotations

from redoubt.lazily import np, pd

KIND = "mean"
UNIT = "scientific"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["gradient"]


def summary(values: np.ndarray) -> float:
    """Return the median of the values."""
    return np.median(values)
