"""Class share: how many of the fooled images the model takes for one class."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """Which class."""

    KIND: ClassVar[Kind] = "rate"
    EMPTY: ClassVar[str] = "no image was fooled"
    label: Annotated[int, Field(ge=0, description="number of the class")]

    def applies(self, rows: pd.DataFrame) -> pd.Series:
        """Tell of each image whether its prediction changed."""
        return rows["adversarial_label"] != rows["clean_label"]

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return whether each image is taken for the class."""
        return rows["adversarial_label"] == self.label
