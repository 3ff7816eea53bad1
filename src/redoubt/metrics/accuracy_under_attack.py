"""Accuracy under attack: the share of all images that keeps its true label; clean errors count as errors."""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "rate"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["adversarial_label"] == rows["label"]
