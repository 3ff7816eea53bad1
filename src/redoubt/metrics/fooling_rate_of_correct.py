"""Fooling rate of the images that the model labels correctly: the share whose prediction the attack changed.

For attacks that start from the true label: they have nothing to do on an image that is wrong as it is.
"""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "rate"
UNIT = "percent"
EMPTY = "no attacked image is labelled correctly"


def applies(rows: pd.DataFrame) -> pd.Series:
    """Tell of each image whether it is labelled correctly before the attack."""
    return rows["clean_label"] == rows["label"]


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["adversarial_label"] != rows["clean_label"]
