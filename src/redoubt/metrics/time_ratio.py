"""Time ratio: seconds with peer layers over seconds without, the median over measurements side by side."""

from __future__ import annotations

import numpy as np

from redoubt.lazily import pd

KIND = "mean"
UNIT = "plain"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per measurement."""
    return rows["seconds"] / rows["seconds_plain"]


def summary(ratios: np.ndarray) -> float:
    """Return the median."""
    return float(np.median(ratios))
