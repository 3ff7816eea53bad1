"""Time ratio: seconds of some work over those of the plain work beside it, the median over such pairs.

The work is a pass with peer layers and one without (probe timing), or a training step of a defense and a normal one
(probe epoch-time).
"""

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
