"""Error rate: the share of all images that are labelled wrongly after an attack, those already wrong before it too.

What Perceptual Prior calls the fooling rate in tables 7 and 8.
"""

from __future__ import annotations

from typing import ClassVar

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """It has none."""

    KIND: ClassVar[Kind] = "rate"
    GAIN: ClassVar[bool] = True

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return whether each attacked image has another label than its true one."""
        return rows["adversarial_label"] != rows["label"]
