"""rho'_2: mean of ||perturbation||_2, in units of the attacked space (DeepDefense, supplementary equation 1)."""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "plain"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["l2"]
