"""Detection rate: the share of all attacked images that the detector of the model reports.

For models that have a detector, such as MagNet.
"""

from __future__ import annotations

from typing import ClassVar

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """It has none."""

    KIND: ClassVar[Kind] = "rate"

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return whether each image is reported."""
        return rows["detected"]
