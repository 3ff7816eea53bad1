"""Accuracy on clean images: the share that the model labels correctly before the attack."""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "rate"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["clean_label"] == rows["label"]
