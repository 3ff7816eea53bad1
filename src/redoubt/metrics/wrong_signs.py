"""Wrong signs: the mean share of an image's elements whose gradient has the opposite sign in float32.

For the rows of the probe gradient-signs.
"""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["wrong_signs"]
