"""Mean norm of perturbations, in units of the attacked space.

Relative to that of the inputs, this is rho_2 (DeepDefense, equation 7) and rho_inf (equation 8); over all images and as
it is, rho'_2 (its supplementary equation 1); of fooled images on the 0-255 scale, the sizes of PeerNets, table 2.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from redoubt.lazily import pd
from redoubt.metrics.interface import Kind, Metric, Unit


class Parameters(Metric):
    """Which norm, of which images."""

    KIND: ClassVar[Kind] = "mean"
    EMPTY: ClassVar[str] = "no image was fooled"
    order: Literal["l2", "linf"] = Field(description="of the norm")
    over: Literal["all", "fooled"] = Field("all", description="all images, or those whose prediction changed")
    scale: Literal[1, 255] = Field(1, description="1, or 255 for the scale of bytes where images are in [0, 1]")
    relative: bool = Field(False, description="divide each image's norm by that of its input")

    @model_validator(mode="after")
    def _a_ratio_has_no_scale(self) -> Self:
        if self.relative and self.scale != 1:
            raise ValueError("a norm relative to that of the input has no scale; leave out scale or relative")
        return self

    @property
    def unit(self) -> Unit:
        """How values are printed."""
        return "scientific" if self.relative else "plain"

    def applies(self, rows: pd.DataFrame) -> pd.Series:
        """Tell of each image whether it counts."""
        return rows["adversarial_label"] != rows["clean_label"] if self.over == "fooled" else super().applies(rows)

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return the norm of each perturbation."""
        size = rows[self.order]
        return size / rows[f"x_{self.order}"] if self.relative else self.scale * size
