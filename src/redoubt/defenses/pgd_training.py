"""Adversarial training: every batch is replaced by PGD examples of the network as it is at that step.

Source: Madry et al. (ICLR 2018), equation 2.1, and its public code for CIFAR-10 (cifar10_challenge), whose settings are
the defaults: radius 8/255, 10 steps of 2/255, a random start, cross-entropy, gradients in training mode. PeerNets
compares with it in table 6.
Deviation: the random start is clipped to [0, 1], and the passes that craft examples leave the running statistics of
batch normalisation as they are; the pass that trains updates them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redoubt.defenses import _examples
from redoubt.defenses.interface import BaseDefense, Batch, Declaration, Moment, Setting
from redoubt.lazily import lazy, torch

if TYPE_CHECKING:
    from redoubt.preprocessing import _layers as layers
else:
    layers = lazy("redoubt.preprocessing._layers")

DECLARES = Declaration(pretrained=False)


class Parameters(_examples.InnerAttack):
    """The examples that are trained on; lengths are in units of images in [0, 1]."""


class Defense(BaseDefense):
    """The cross-entropy on adversarial examples, and on clean images where a share of them is kept."""

    parameters: Parameters
    pixels: layers.Pixels | None = None

    def begin(self, setting: Setting) -> None:
        """Learn the way between images and inputs."""
        self.pixels = layers.Pixels(setting.shape).to(setting.device).learn(setting.preprocessing)

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the logits (B, classes) of the examples."""
        inputs = batch.inputs
        if self.pixels is None:
            inputs = self.examples(inputs, batch.labels)
        else:
            images = self.pixels.images(inputs).clamp(0.0, 1.0)
            inputs = self.pixels.inputs(self.examples(images, batch.labels))
        return super().loss(Batch(inputs, batch.labels, batch.positions), moment)

    def examples(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return a batch of PGD examples (B, C, H, W) of images in [0, 1]; draws are torch's global generator's."""
        return _examples.examples(self._logits, images, labels, self.parameters, self.network)

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images if self.pixels is None else self.pixels.inputs(images))
