"""rho_inf: mean of ||perturbation||_inf / ||input||_inf over all images (DeepDefense, equation 8)."""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "scientific"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["linf"] / rows["x_linf"]
