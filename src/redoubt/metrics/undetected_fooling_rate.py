"""Share of all images whose prediction the attack changed and the detector of the model did not report.

For models that have a detector, such as MagNet.
"""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "rate"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return (rows["adversarial_label"] != rows["clean_label"]) & ~rows["detected"].astype(bool)
