"""Fooling rate: the share of all images whose prediction the attack changed."""

import pandas as pd

KIND = "rate"
UNIT = "percent"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["adversarial_label"] != rows["clean_label"]
