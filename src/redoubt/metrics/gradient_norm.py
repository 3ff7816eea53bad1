"""Gradient norm: the median l2 norm of the input gradient of the log-odds at the label.

For the rows of the probe peer-gradients.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from redoubt.lazily import np, pd
from redoubt.metrics.interface import Kind, Metric, Unit


class Parameters(Metric):
    """Which gradient."""

    KIND: ClassVar[Kind] = "mean"
    straight_through: bool = Field(False, description="with peer layers as the identity on the way back")

    @property
    def unit(self) -> Unit:
        """How values are printed."""
        return "scientific"

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return one norm per image."""
        return rows["gradient_straight_through" if self.straight_through else "gradient"]

    def summary(self, values: np.ndarray) -> float:
        """Return the median of the values."""
        return float(np.median(values))
