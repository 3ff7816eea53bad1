"""Accuracy on clean images: the share that the model labels correctly before the attack."""

import pandas as pd

KIND = "rate"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["clean_label"] == rows["label"]
