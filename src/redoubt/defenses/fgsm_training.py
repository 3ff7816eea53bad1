"""Adversarial training by single steps: a share of every batch is replaced by FGSM examples of the network as it is.

Source: Goodfellow et al. (ICLR 2015), section 6; half of a batch stays clean, as in Kurakin et al. (ICLR 2017).
Compared in Perceptual Prior, tables 1, 2, 5 and 7 to 9, which print no share; its time of an epoch, about twice that of
normal training, is that of one further pass over as many images.
Deviation: Goodfellow et al. train on every image and its example, each with weight 1/2, which is `clean: 0` with
`clean_weight: 0.5`. The passes that craft examples leave the running statistics of batch normalisation as they are.
"""

from __future__ import annotations

from pydantic import Field

from redoubt.defenses import _examples, pgd_training
from redoubt.defenses.interface import Declaration
from redoubt.lazily import torch
from redoubt.records import Positive, Share

DECLARES = Declaration(pretrained=False, adaptive=("transfer", "log-odds"))


class Parameters(_examples.Weighted):
    """The examples that are trained on; lengths are in units of images in [0, 1]."""

    epsilon: Positive = Field(8 / 255, description="length of the step along the sign of the gradient")
    clean: Share = Field(0.5, description="share of the images of a batch that stay clean")
    label: _examples.Label = "true"
    mode: _examples.Mode = "train"


class Defense(pgd_training.Defense):
    """The cross-entropy on clean images and on FGSM examples of others, as one mean."""

    def examples(
        self, images: torch.Tensor, labels: torch.Tensor, predicted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return a batch (B, C, H, W) of clean images and FGSM examples, of images in [0, 1]; nothing is drawn."""
        own = self.parameters
        options = _examples.InnerAttack(
            epsilon=own.epsilon, steps=1, step_size=own.epsilon, random_start=False, label=own.label, mode=own.mode
        )
        return _examples.mixed(self.logits, images, labels, options, self.network, own.clean, predicted)
