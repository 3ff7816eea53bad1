"""Accuracy: the share of all images that the model labels correctly; under attack, clean errors count as errors."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """On which images."""

    KIND: ClassVar[Kind] = "rate"
    at: Literal["clean", "attacked"] = Field("clean", description="images before or after the attack")

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return whether each image has its true label."""
        return rows["clean_label" if self.at == "clean" else "adversarial_label"] == rows["label"]
