"""Adversarial logit pairing (ALP): the logits of an image and of its PGD example are drawn together.

Clean images and examples are one batch, with one mean cross-entropy and common statistics of batch normalisation. To it
comes the weighted mean, over images and classes, of squared differences of logits.

Source: Kannan et al. (2018), section 4.1, and their public code (tensorflow/models, adversarial_logit_pairing): one
batch, mean over images and classes, the class that the network predicts in eval mode is the one that examples leave.
Compared in Perceptual Prior, tables 1, 2 and 5, which print no weight: 0.5 is a choice, and the name of the released
checkpoint for ImageNet says 0.25.
Deviation: no label smoothing; the inner attack is that of `pgd-training`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redoubt.defenses import _examples
from redoubt.defenses._on_images import OnImages
from redoubt.defenses.interface import Batch, Declaration, Moment
from redoubt.lazily import torch

DECLARES = Declaration(pretrained=False, adaptive=("log-odds", "margin", "scaled-logits"))


class Parameters(_examples.InnerAttack):
    """The examples that images are paired with, and how strongly; lengths are in units of images in [0, 1]."""

    label: _examples.Label = "predicted"
    mode: _examples.Mode = "eval"
    weight: Annotated[float, Field(ge=0)] = Field(0.5, description="weight of the mean squared gap between logits")


class Defense(OnImages):
    """The cross-entropy of images and examples, plus the gap between their logits."""

    parameters: Parameters

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss, and the logits (B, classes) of the clean images."""
        images = self.images(batch.inputs)
        found = _examples.examples(self.logits, images, batch.labels, self.parameters, self.network)
        logits = self.network(torch.cat([batch.inputs, self.inputs(found)]))
        clean, moved = logits.chunk(2)
        entropy = torch.nn.functional.cross_entropy(logits, batch.labels.repeat(2))
        return entropy + self.parameters.weight * (clean - moved).square().mean(), clean
