"""Time ratio: seconds with peer layers over seconds without, the median over measurements side by side."""

import numpy as np
import pandas as pd

KIND = "mean"
UNIT = "plain"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per measurement."""
    return rows["seconds"] / rows["seconds_plain"]


def summary(ratios: np.ndarray) -> float:
    """Return the median."""
    return float(np.median(ratios))
