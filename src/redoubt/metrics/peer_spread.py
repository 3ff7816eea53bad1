"""Peer spread: how far a peer layer is from giving all K neighbours of a pixel the same part, at the mean.

For the rows of the probe peer-gradients.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric, Unit


class Parameters(Metric):
    """Of what."""

    KIND: ClassVar[Kind] = "mean"
    of: Literal["attention", "neighbours"] = Field(
        description="total variation between the attention of a pixel and 1/K, or the distance of its neighbours from "
        "their mean, as a share of their size"
    )

    @property
    def unit(self) -> Unit:
        """How values are printed."""
        return "percent"

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return one share per image."""
        return rows["attention_distance" if self.of == "attention" else "spread"]
