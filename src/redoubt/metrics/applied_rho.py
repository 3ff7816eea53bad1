"""Size of a universal perturbation after clipping: mean of ||clip(x + v) - x||_2 over E||x||_2 of the crafting images.

Without clipping it is rho, which the attack was given; clipped to [0, 1], it is less (PeerNets, section 4.3.2).
"""

from __future__ import annotations

from typing import ClassVar

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """It has none."""

    KIND: ClassVar[Kind] = "mean"

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return the relative size of each perturbation."""
        return rows["l2"] * rows["rho"] / rows["radius"]  # radius = rho E||x||
