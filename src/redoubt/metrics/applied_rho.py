"""Size of a universal perturbation after clipping: mean of ||clip(x + v) - x||_2 over E||x||_2 of the crafting images.

Without clipping it is rho, which the attack was given; clipped to [0, 1], it is less (PeerNets, section 4.3.2).
"""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "plain"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["l2"] * rows["rho"] / rows["radius"]  # radius = rho E||x||
