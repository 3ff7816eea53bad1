"""TRADES: the cross-entropy of clean images, plus the divergence of predictions on examples near them.

An example starts at an image with a little noise, and takes signed gradient steps that raise the Kullback-Leibler
divergence between the predictions on the two, within an l-infinity ball and [0, 1]. The loss is the cross-entropy of
the image, plus `beta` times that divergence.

Source: Zhang et al. (ICML 2019), equation 5 and algorithm 1, where `beta` is 1/lambda; start and modes of the network
are those of their public code (yaodongyu/TRADES): evaluation while examples are made, training for the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from redoubt.defenses._on_images import OnImages
from redoubt.defenses.interface import Batch, Declaration, Moment
from redoubt.lazily import lazy, torch
from redoubt.records import Positive, Strict

if TYPE_CHECKING:
    from redoubt.networks import _modes as modes
else:
    modes = lazy("redoubt.networks._modes")

DECLARES = Declaration(pretrained=False, adaptive=("log-odds", "margin"))
START = 0.001  # standard deviation of the noise that an example starts from


class Parameters(Strict):
    """The examples and their weight; lengths are in units of images in [0, 1]."""

    beta: Annotated[float, Field(ge=0)] = Field(6.0, description="weight of the divergence, 1/lambda in the paper")
    epsilon: Positive = Field(8 / 255, description="radius of the l-infinity ball")
    steps: Annotated[int, Field(gt=0)] = Field(10, description="gradient steps")
    step_size: Positive = Field(2 / 255, description="length of a step")


class Defense(OnImages):
    """The cross-entropy, and the divergence that examples reach."""

    parameters: Parameters

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch, and the logits (B, classes) of the clean images."""
        found = self.examples(self.images(batch.inputs))
        logits = self.network(batch.inputs)
        entropy = torch.nn.functional.cross_entropy(logits, batch.labels)
        divergence = _divergence(logits, self.logits(found)) / len(batch)
        return entropy + self.parameters.beta * divergence, logits

    def examples(self, images: torch.Tensor) -> torch.Tensor:
        """Return an example (B, C, H, W) in [0, 1] for every image; noise is torch's global generator's."""
        options = self.parameters
        low, high = (images - options.epsilon).clamp_min(0.0), (images + options.epsilon).clamp_max(1.0)
        with modes.eval_mode(self.network):
            with torch.no_grad():
                clean = self.logits(images)
            found = images + START * torch.randn_like(images)
            for _ in range(options.steps):
                found = found.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(_divergence(clean, self.logits(found)), found)
                found = torch.clamp(found.detach() + options.step_size * gradient.sign(), low, high)
        return found


def _divergence(clean: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Return the divergence of predictions, given by two tensors of logits (B, classes), summed over images."""
    logs = [logits.log_softmax(1) for logits in (moved, clean)]
    return torch.nn.functional.kl_div(*logs, reduction="sum", log_target=True)
