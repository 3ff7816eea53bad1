"""The epsilon that suffices for every image: the largest of the smallest ones that a search found (PeerNets, 4.3.1).

For searches on pixels in [0, 1]: there 1 allows any image, so it stands for larger epsilons and for images on which the
search failed. The bootstrap's interval of a maximum reaches downwards only.
"""

from __future__ import annotations

from typing import ClassVar

from redoubt.lazily import np, pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """It has none."""

    KIND: ClassVar[Kind] = "mean"

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return the smallest epsilon of each image."""
        return rows["epsilon"].fillna(1.0).clip(upper=1.0)

    def summary(self, values: np.ndarray) -> float:
        """Return the largest of the values."""
        return float(values.max())
