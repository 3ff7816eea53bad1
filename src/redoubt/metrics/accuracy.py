"""Accuracy: the share of all images that the model labels correctly; under attack, clean errors count as errors."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """On which images, and by which rule where a random model is scored several times."""

    KIND: ClassVar[Kind] = "rate"
    at: Literal["clean", "attacked"] = Field("clean", description="images before or after the attack")

    over: Literal["mean", "worst"] = Field(
        "mean", description="repetitions: their mean, or the worst, as for an attacker who tries again"
    )

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return whether each image has its true label; by the worst, whether it has in all repetitions."""
        right = rows["clean_label" if self.at == "clean" else "adversarial_label"] == rows["label"]
        if self.over == "mean" or "repetition" not in rows:
            return right
        return right.groupby([rows[name] for name in ("model", "seed", "index") if name in rows]).transform("all")
