"""Adversarial training: every batch is replaced by PGD examples of the network as it is at that step.

Source: Madry et al. (ICLR 2018), equation 2.1, and its public code for CIFAR-10 (cifar10_challenge), whose settings are
the defaults: radius 8/255, 10 steps of 2/255, a random start, cross-entropy, gradients in training mode. PeerNets
compares with it in table 6. What PNI and Learn2Perturb call Vanilla weighs clean images and examples alike, each in a
pass of training mode (`clean_weight: 0.5`).
Deviation: the random start is clipped to [0, 1], and the passes that craft examples leave the running statistics of
batch normalisation as they are; the pass that trains updates them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from redoubt.defenses import _examples
from redoubt.defenses._on_images import OnImages
from redoubt.defenses.interface import Batch, Declaration, Moment
from redoubt.lazily import torch
from redoubt.records import Positive, Share

DECLARES = Declaration(
    pretrained=False, adaptive="none: a plain network whose training met iterative attacks with exact gradients"
)


class Parameters(_examples.Mixed, _examples.Weighted):
    """The examples that are trained on; lengths are in units of images in [0, 1]."""


class Halves(Parameters):
    """Half clean images, half examples, as the public codes of PNI and Learn2Perturb have them."""

    steps: Annotated[int, Field(gt=0)] = Field(7, description="gradient steps")
    step_size: Positive = Field(0.01, description="length of a step")
    label: _examples.Label = "predicted"
    mode: _examples.Mode = "eval"
    clean_weight: Share = Field(0.5, description="weight of the clean images' loss")


class Defense(OnImages):
    """The cross-entropy on adversarial examples, and on clean images that have a share of the batch or a weight."""

    parameters: Parameters

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss, and the logits (B, classes) of the clean images' pass, or of the examples without one.

        Where `label` is predicted and clean images have a pass, its prediction is meant.
        """
        weight = self.parameters.clean_weight
        if moment.epoch < self.parameters.adversarial_from:
            return super().loss(batch, moment)
        if weight == 0:
            return super().loss(self.attacked(batch), moment)
        clean, logits = super().loss(batch, moment)
        moved, _ = super().loss(self.attacked(batch, logits.detach().argmax(1)), moment)
        return weight * clean + (1.0 - weight) * moved, logits

    def attacked(self, batch: Batch, predicted: torch.Tensor | None = None) -> Batch:
        """Return a batch with `examples` in place of its images; `predicted` (B,) are classes that are known."""
        found = self.examples(self.images(batch.inputs), batch.labels, predicted)
        return Batch(self.inputs(found), batch.labels, batch.positions)

    def examples(
        self, images: torch.Tensor, labels: torch.Tensor, predicted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return a batch of PGD examples (B, C, H, W) of images in [0, 1]; draws are torch's global generator's."""
        options = self.parameters
        return _examples.mixed(self.logits, images, labels, options, self.network, options.clean, predicted)
