"""Adversarial training: every batch is replaced by PGD examples of the network as it is at that step.

Source: Madry et al. (ICLR 2018), equation 2.1, and its public code for CIFAR-10 (cifar10_challenge), whose settings are
the defaults: radius 8/255, 10 steps of 2/255, a random start, cross-entropy, gradients in training mode. PeerNets
compares with it in table 6.
Deviation: the random start is clipped to [0, 1], and the passes that craft examples leave the running statistics of
batch normalisation as they are; the pass that trains updates them.
"""

from __future__ import annotations

from redoubt.defenses import _examples
from redoubt.defenses._on_images import OnImages
from redoubt.defenses.interface import Batch, Declaration, Moment
from redoubt.lazily import torch

DECLARES = Declaration(pretrained=False)


class Parameters(_examples.Mixed):
    """The examples that are trained on; lengths are in units of images in [0, 1]."""


class Defense(OnImages):
    """The cross-entropy on adversarial examples, and on clean images where a share of them is kept."""

    parameters: Parameters

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the logits (B, classes) of the examples."""
        inputs = self.inputs(self.examples(self.images(batch.inputs), batch.labels))
        return super().loss(Batch(inputs, batch.labels, batch.positions), moment)

    def examples(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return a batch of PGD examples (B, C, H, W) of images in [0, 1]; draws are torch's global generator's."""
        options = self.parameters
        return _examples.mixed(self.logits, images, labels, options, self.network, options.clean)
