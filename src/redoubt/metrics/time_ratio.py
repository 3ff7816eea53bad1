"""Time ratio: seconds with peer layers over seconds without, the median over measurements side by side."""

from __future__ import annotations

from typing import ClassVar

from redoubt.lazily import np, pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """It has none."""

    KIND: ClassVar[Kind] = "mean"

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return one ratio per measurement."""
        return rows["seconds"] / rows["seconds_plain"]

    def summary(self, values: np.ndarray) -> float:
        """Return the median."""
        return float(np.median(values))
