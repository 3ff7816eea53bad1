"""Accuracy under attack: the share of all images that keeps its true label; images that were wrong before count as wrong."""

import pandas as pd

KIND = "rate"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["adversarial_label"] == rows["label"]
