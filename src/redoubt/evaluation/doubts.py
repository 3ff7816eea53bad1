"""Gates: what speaks against a number of robust accuracy, measured on the model and on finished rows.

Source: Carlini et al. (2019, On Evaluating Adversarial Robustness), sections 4 and 5; Athalye, Carlini and Wagner
(ICML 2018), section 3.1. A gate that passes proves nothing; one that does not says that the number means little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from redoubt.attacks import _losses as losses
from redoubt.rows import NONFINITE

FEW = 0.02
"""Share of images up to which a finding is taken for chance; one image always is."""


@dataclass(frozen=True)
class Gate:
    """One question to a number: whether it passed, what was found, and what that means where it did not."""

    name: str
    passed: bool
    found: str
    meaning: str

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.found}" + (
            "" if self.passed else f"; {self.meaning}"
        )


def clean(rows: pd.DataFrame, classes: int) -> Gate:
    """Judge whether the model knows the images before any attack, better than by chance."""
    share = float((rows["clean_label"] == rows["label"]).mean())
    return Gate(
        "clean images",
        share > 1.0 / classes,
        f"{share:.1%} are classified correctly",
        "the model guesses; check the order of classes, and that images are in [0, 1] and not normalised twice",
    )


def gradients(network: Callable, images: torch.Tensor, labels: torch.Tensor, size: int) -> Gate:
    """Judge whether input gradients of the margin vanish; a pass of each image, `size` images at a time."""
    vanished = 0
    for part, own in zip(images.split(size), labels.split(size), strict=True):
        inputs = part.clone().requires_grad_()
        with torch.enable_grad():
            margin = losses.margin(network(inputs), own)
        gradient = torch.autograd.grad(margin.sum(), inputs, allow_unused=True)[0] if margin.requires_grad else None
        vanished += len(part) if gradient is None else int((gradient.flatten(1) == 0).all(1).sum())
    return Gate(
        "gradients",
        vanished <= max(1, FEW * len(images)),
        f"{vanished} of {len(images)} images have a gradient that is zero everywhere",
        "attacks that follow gradients find nothing there; attack a model without what blocks them",
    )


def finite(members: Mapping[str, pd.DataFrame]) -> Gate:
    """Judge whether attacks met gradients that are not finite."""
    share = max(rows.attrs.get(NONFINITE, 0.0) for rows in members.values())
    return Gate(
        "finite gradients",
        share == 0.0,
        f"{share:.1%} were not finite",
        "they were taken beside the point; look for a root or a logarithm of zero",
    )


def black_box(members: Mapping[str, pd.DataFrame], without: Sequence[str]) -> Gate:
    """Judge whether attacks without gradients fool images that withstood those with gradients."""
    fooled = {
        own: {name: _fooled(rows) for name, rows in members.items() if (name in without) is own}
        for own in (True, False)
    }
    if not fooled[True] or not fooled[False]:
        return Gate("black box", True, "not judged: it takes attacks with gradients and without", "")
    blind, seeing = (pd.concat(fooled[own].values(), axis=1).any(axis=1) for own in (True, False))
    alone = int((blind & ~seeing).sum())
    return Gate(
        "black box",
        alone <= max(1, FEW * len(blind)),
        f"{alone} of {len(blind)} images fall to attacks without gradients alone",
        "gradients point nowhere useful, so attacks that follow them say little",
    )


def _fooled(rows: pd.DataFrame) -> pd.Series:
    return (rows["adversarial_label"] != rows["label"]).groupby(rows["index"]).any()


def holding_grey(threat: str, images: torch.Tensor) -> float:
    """Return the radius of a ball around any image that holds the grey image: 1/2, or half the root of its pixels."""
    return 0.5 if threat == "linf" else 0.5 * images[0].numel() ** 0.5


def large_ball(rows: pd.DataFrame, radius: float) -> Gate:
    """Judge whether an attack wins in a ball that holds the grey image.

    There all images can be made equal, so that at best those of one class are right.
    """
    left = float((rows["adversarial_label"] == rows["label"]).mean())
    most = float(rows["label"].value_counts(normalize=True).iloc[0])
    return Gate(
        "large ball",
        left <= most,
        f"{left:.1%} are right under an attack of radius {radius:g}, where at most {most:.1%} can be",
        "the attack fails for a reason that is not robustness",
    )
