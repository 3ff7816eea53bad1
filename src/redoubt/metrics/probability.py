"""Mean probability that the model gives to a class of the attacked image."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """Of which class."""

    KIND: ClassVar[Kind] = "mean"
    of: Literal["label", "prediction"] = Field(description="the true label, or what the model sees")

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return one probability per image."""
        return rows["probability_label" if self.of == "label" else "probability_adversarial"]
