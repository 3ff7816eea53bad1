"""Detection rate: the share of all attacked images that the detector of the model reports.

For models that have a detector, such as MagNet.
"""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "rate"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["detected"]
