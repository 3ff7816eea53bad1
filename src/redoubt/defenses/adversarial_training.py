"""Adversarial training on a fixed set of DeepFool examples.

Source: DeepDefense, section 4, "Adversarial Training", after Moosavi-Dezfooli et al. (CVPR 2016): the set is made
once and no clean images are used. The paper leaves open which model it is made from; here it is the network as
fine-tuning finds it, for all training images.
"""

from __future__ import annotations

from redoubt.attacks import deepfool
from redoubt.defenses.interface import BaseDefense, Declaration, Progress
from redoubt.lazily import torch
from redoubt.networks._modes import eval_mode

DECLARES = Declaration(adaptive="none: a plain network that was trained on other images")


class Parameters(deepfool.Parameters):
    """The DeepFool that makes the training set."""


class Defense(BaseDefense):
    """The cross-entropy on adversarial inputs that were made before the first step."""

    parameters: Parameters

    def training_inputs(self, inputs: torch.Tensor, labels: torch.Tensor, progress: Progress) -> torch.Tensor:
        """Return a DeepFool example of every input (N, ...), with its true label kept."""
        examples = torch.empty_like(inputs)
        with eval_mode(self.network):
            for start in progress(range(0, len(inputs), 256), "DeepFool set"):
                batch = inputs[start : start + 256]
                examples[start : start + 256] = batch + deepfool.perturb(self.network, batch, self.parameters)[0]
        return examples
