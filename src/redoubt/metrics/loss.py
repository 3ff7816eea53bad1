"""Mean cross-entropy of the attacked images at their true labels (Perceptual Prior, figures 3 and 6).

Attacks write it beside each image, from the logarithm of the softmax, which large logits do not overflow.
"""

from __future__ import annotations

from typing import ClassVar

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """It has none."""

    KIND: ClassVar[Kind] = "mean"

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return the cross-entropy of each attacked image."""
        return rows["loss"]
