"""Gradient signs: the mean share of an image's elements whose gradient loses its sign in float32.

For the rows of the probe gradient-signs.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric, Unit


class Parameters(Metric):
    """Which elements."""

    KIND: ClassVar[Kind] = "mean"
    that: Literal["vanish", "flip"] = Field(
        description="elements that are lost to zero, or that have the opposite sign"
    )

    @property
    def unit(self) -> Unit:
        """How values are printed."""
        return "percent"

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return one share per image."""
        return rows["zero_signs" if self.that == "vanish" else "wrong_signs"]
