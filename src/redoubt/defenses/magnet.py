"""MagNet: an autoencoder that reforms images before a frozen classifier, and detectors of what it changes much.

The autoencoder is trained by the mean squared error between clean images and reconstructions of noisy ones. The model's
prediction is that of the reformed image. Thresholds are set after the last step.

Source: Meng and Chen (CCS 2017), sections 4 and 5.3 (CIFAR-10: one autoencoder as detector and reformer, noise 0.025,
divergence detectors at temperatures 10 and 40, each with a false positive rate of 0.5 %), and the authors' public code
for MNIST (shapes, sigmoids, clipped noise, a penalty of 1e-9 on squared activations). Compared in PeerNets, table 4.
Deviation: noise is drawn again at every step; thresholds come from the training images, since no part of them is held
out; the penalty is summed over an image, not over a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from redoubt.defenses.interface import BaseDefense, Batch, Declaration, Moment, Setting
from redoubt.lazily import lazy, torch
from redoubt.records import Positive, Share, Strict

if TYPE_CHECKING:
    from redoubt.networks import _reformed as reformed
else:
    reformed = lazy("redoubt.networks._reformed")

DECLARES = Declaration(changes=True, adaptive=("through-autoencoder", "detector-evaded"))


class Parameters(Strict):
    """The autoencoder, its training, and the detectors."""

    width: Annotated[int, Field(gt=0)] = Field(3, description="channels of the autoencoder's hidden layers")
    std: Annotated[float, Field(ge=0)] = Field(
        0.025, description="standard deviation of the noise in training, in units of images in [0, 1]"
    )
    penalty: Annotated[float, Field(ge=0)] = Field(1e-9, description="weight of the squared activations of an image")
    order: Literal[1, 2] = Field(1, description="p of the reconstruction error, the mean of |difference|^p")
    temperatures: list[Positive] = Field(
        [10.0, 40.0], description="temperatures of the detectors by divergence of predictions; none when empty"
    )
    false_positives: Share = Field(0.005, description="share of clean training images that each detector reports")


def change(
    parameters: Parameters, network: torch.nn.Module, shape: tuple[int, int, int], classes: int
) -> reformed.Reformed:
    """Return `network`, not to be trained any more, behind an autoencoder."""
    return reformed.Reformed(network, shape, parameters.width, parameters.order, parameters.temperatures)


def adopt(network: reformed.Reformed, state: dict[str, torch.Tensor]) -> None:
    """Take the classifier's weights, or all those of another MagNet."""
    whole = any(name.startswith("autoencoder.") for name in state)
    (network if whole else network.network).load_state_dict(state)


class Defense(BaseDefense):
    """The mean squared error of reconstruction."""

    parameters: Parameters
    network: reformed.Reformed

    def begin(self, setting: Setting) -> None:
        """Learn the way between images and inputs."""
        self.network.pixels.learn(setting.preprocessing)

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of the autoencoder, and the logits (B, classes) of the reformed images."""
        network, options = self.network, self.parameters
        images = network.pixels.images(batch.inputs)
        noisy = (images + options.std * torch.randn_like(images)).clamp(0.0, 1.0)
        maps = network.autoencoder.activations(noisy)
        error = torch.nn.functional.mse_loss(maps[-1], images)
        penalty = sum(part.square().flatten(1).sum(1).mean() for part in maps)
        with torch.no_grad():
            logits = network(batch.inputs)
        return error + options.penalty * penalty, logits

    def finish(self, batches: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Set the detectors' thresholds by clean training inputs."""
        self.network.calibrate(batches, self.parameters.false_positives)
