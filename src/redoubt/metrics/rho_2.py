"""rho_2: mean of ||perturbation||_2 / ||input||_2 over all images (DeepDefense, equation 7)."""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "scientific"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["l2"] / rows["x_l2"]
