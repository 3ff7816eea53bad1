"""Attention distance: total variation between the attention of a pixel and 1/K, at the mean.

For the rows of the probe peer-gradients.
"""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["attention_distance"]
