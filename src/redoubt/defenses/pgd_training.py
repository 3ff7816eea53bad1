"""Adversarial training: every batch is replaced by PGD examples of the network as it is at that step.

Source: Madry et al. (ICLR 2018), equation 2.1, and its public code for CIFAR-10 (cifar10_challenge), whose settings are
the defaults: radius 8/255, 10 steps of 2/255, a random start, cross-entropy, gradients in training mode. PeerNets
compares with it in table 6.
Deviation: the random start is clipped to [0, 1], and the passes that craft examples leave the running statistics of
batch normalisation as they are; the pass that trains updates them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import Field

from redoubt.defenses.interface import BaseDefense, Declaration
from redoubt.lazily import lazy
from redoubt.networks._modes import eval_mode
from redoubt.records import Positive, Strict

torch = lazy("torch")
layers = lazy("redoubt.preprocessing._layers")

DECLARES = Declaration(pretrained=False)


class Parameters(Strict):
    """The examples that are trained on; lengths are in units of images in [0, 1]."""

    epsilon: Positive = Field(8 / 255, description="radius of the l-infinity ball")
    steps: Annotated[int, Field(gt=0)] = Field(10, description="gradient steps")
    step_size: Positive = Field(2 / 255, description="length of a step")
    random_start: bool = Field(True, description="start anywhere in the ball; at the image when false")
    mode: Literal["train", "eval"] = Field("train", description="mode of the network while examples are made")


class Defense(BaseDefense):
    """The cross-entropy on adversarial examples alone."""

    pixels: layers.Pixels | None = None

    def begin(self, preprocessing: torch.nn.Module, shape: tuple[int, int, int]) -> None:
        """Learn the way between images and inputs."""
        device = next(self.network.parameters()).device
        self.pixels = layers.Pixels(shape).to(device).learn(preprocessing)

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the logits (B, classes) of the examples."""
        if self.pixels is None:
            return super().loss(self.examples(inputs, labels), labels)
        images = self.pixels.images(inputs).clamp(0.0, 1.0)
        return super().loss(self.pixels.inputs(self.examples(images, labels)), labels)

    def examples(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return PGD examples (B, C, H, W) of images in [0, 1]; draws come from torch's global generator."""
        options = self.parameters
        low, high = (images - options.epsilon).clamp_min(0.0), (images + options.epsilon).clamp_max(1.0)
        found = images
        if options.random_start:
            found = (images + options.epsilon * (2.0 * torch.rand_like(images) - 1.0)).clamp(0.0, 1.0)
        with self._crafting():
            for _ in range(options.steps):
                found = found.detach().requires_grad_()
                logits = self.network(found if self.pixels is None else self.pixels.inputs(found))
                entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
                (gradient,) = torch.autograd.grad(entropy, found)
                found = torch.clamp(found.detach() + options.step_size * gradient.sign(), low, high)
        return found

    @contextmanager
    def _crafting(self) -> Iterator[None]:
        if self.parameters.mode == "eval":
            with eval_mode(self.network):
                yield
            return
        before = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        try:
            yield
        finally:
            for buffer, value in before:
                buffer.copy_(value)
