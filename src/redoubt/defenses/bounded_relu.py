"""Bounded ReLUs and Gaussian data augmentation: activations clipped from above, training on clean and noisy images.

Source: Zantedeschi et al. (AISec 2017, arXiv 1707.06728), BRELU + GDA; in PeerNets, table 4. The bound of 1 is the
default of the layer in the authors' toolbox (ART 0.x, `BoundedReLU`), which also doubles the training set by noisy
copies that are not clipped to [0, 1]. PeerNets prints neither bound nor noise: 0.05 on images in [0, 1] is what a
public comparison on CIFAR-10 took for this defense (Liu et al., Random Self-Ensemble).
Deviation: noise is drawn again at every step, where the toolbox draws the copies once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from redoubt.defenses.interface import BaseDefense, Batch, Declaration, Moment, Setting
from redoubt.errors import RedoubtError
from redoubt.lazily import lazy, torch
from redoubt.records import Positive, Strict

if TYPE_CHECKING:
    from redoubt.preprocessing import _layers as layers
else:
    layers = lazy("redoubt.preprocessing._layers")

DECLARES = Declaration(pretrained=False, changes=True, adaptive=("transfer", "margin"))


class Parameters(Strict):
    """The activations' bound, and the noise."""

    bound: Positive = Field(1.0, description="largest activation")
    std: Annotated[float, Field(ge=0)] = Field(
        0.05, description="standard deviation of the noise, in units of images in [0, 1]"
    )
    copies: Annotated[int, Field(ge=0)] = Field(1, description="noisy copies of every image in a batch")


def change(
    parameters: Parameters, network: torch.nn.Module, shape: tuple[int, int, int], classes: int
) -> torch.nn.Module:
    """Return `network` with a bound on each of its ReLUs.

    Raises:
        RedoubtError: it has none.
    """
    # Of a module that stands in two places, named_children would leave out the second.
    found = [(module, name) for module in network.modules() for name, child in module._modules.items() if _relu(child)]
    if not found:
        raise RedoubtError("bounded-relu: this network has no ReLU to bound")
    for module, name in found:
        setattr(module, name, torch.nn.Hardtanh(0.0, parameters.bound))
    return network


def _relu(module: torch.nn.Module | None) -> bool:
    return isinstance(module, torch.nn.ReLU)


class Defense(BaseDefense):
    """The mean cross-entropy of all images of a batch and their noisy copies, which share one forward pass."""

    parameters: Parameters
    scale: torch.Tensor | float = 1.0  # of inputs against images

    def begin(self, setting: Setting) -> None:
        """Learn how noise on images becomes noise on inputs."""
        self.scale = layers.Pixels(setting.shape).to(setting.device).learn(setting.preprocessing).scale

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss, and the logits (B, classes) of the clean images."""
        copies = self.parameters.copies
        inputs = batch.inputs.repeat(1 + copies, 1, 1, 1)
        inputs[len(batch) :] += self.parameters.std * self.scale * torch.randn_like(inputs[len(batch) :])
        logits = self.network(inputs)
        return torch.nn.functional.cross_entropy(logits, batch.labels.repeat(1 + copies)), logits[: len(batch)]
