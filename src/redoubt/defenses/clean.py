"""Training on clean images: how references are made, and the control that every fine-tuning is compared with.

Source: DeepDefense, figure 2 ("Clean").
"""

from __future__ import annotations

from redoubt.defenses.interface import BaseDefense, Declaration
from redoubt.records import Strict

DECLARES = Declaration(pretrained=False, adaptive="none: no defense")


class Parameters(Strict):
    """It has none."""


class Defense(BaseDefense):
    """The plain cross-entropy."""
