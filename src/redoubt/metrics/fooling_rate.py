"""Fooling rate: the share of images whose prediction the attack changed."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric


class Parameters(Metric):
    """Of which images, and what counts as fooled."""

    KIND: ClassVar[Kind] = "rate"
    GAIN: ClassVar[bool] = True
    EMPTY: ClassVar[str] = "no attacked image is labelled correctly"
    over: Literal["all", "correct"] = Field(
        "all",
        description="all images, or those labelled correctly before the attack: one that starts from the true label "
        "has nothing to do on the others",
    )
    unreported: bool = Field(
        False, description="count only images that the model's detector did not report; for models that have one"
    )

    def applies(self, rows: pd.DataFrame) -> pd.Series:
        """Tell of each image whether it counts."""
        return rows["clean_label"] == rows["label"] if self.over == "correct" else super().applies(rows)

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return whether each image is fooled."""
        fooled = rows["adversarial_label"] != rows["clean_label"]
        return fooled & ~rows["detected"].astype(bool) if self.unreported else fooled
