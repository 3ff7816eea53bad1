"""Learn2Perturb: Gaussian noise on feature maps, whose size, theta, has an element for each of theirs and is trained.

Each batch has two updates: theta by a regulariser that makes noise larger, then weights and theta by the loss, which is
half that of the clean images and half that of PGD examples of the noisy network. Then theta is raised to a floor. Noise
begins at one epoch, examples at a later one.

The regulariser is -gamma / tau x (sum of the square roots of all elements of theta), and tau grows with the epoch t
since noise began at epoch s: the harmonic number 1 + 1/2 + ... + 1/(t - s + 1). Printed is the sum over i from s to t
of 1/(i - s - 1), whose first terms are -1 and 1/0; the public code sums 1/i to t - s, and divides by zero at t = s.

With a shorter schedule theta grows less, as it grows by steps: the regulariser alone would take it from 0.25 to 0.64
in 50 epochs of 391 steps at a learning rate of 0.1, and to 1.06 in 150. A schedule that is cut should scale gamma.

Source: Learn2Perturb (Jeddi et al., CVPR 2020), equations 7 and 8; supplement, sections 1.1 and 1.4,
equations 1 and 3; and the public code for what these leave open: theta is 0.25 at the start and at least 0.01, does not
decay, and has the learning rate of the weights and one momentum for both of its updates; noise after the first
convolution too; 7 steps of 0.01 from a random start, by a network in eval mode with noise, away from the class that the
clean images' pass predicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from redoubt.defenses import pgd_training
from redoubt.defenses.interface import Batch, Declaration, Group, Moment
from redoubt.lazily import lazy, torch
from redoubt.records import Positive

if TYPE_CHECKING:
    from redoubt.networks import _noise as noise
else:
    noise = lazy("redoubt.networks._noise")

DECLARES = Declaration(draws="call", pretrained=False, changes=True, adaptive=("mean-of-draws", "twin"))


class Parameters(pgd_training.Halves):
    """The noise, its regulariser, and the examples that are trained on; lengths in units of images in [0, 1]."""

    before: Annotated[list[str], Field(min_length=1)] = Field(
        ["stem.relu", "*.relu2"],
        description="modules that noise is added in front of, `*` for any part of a name: the ReLUs after the first "
        "convolution and at the end of the blocks of a residual network",
    )
    initial: Positive = Field(0.25, description="theta at the start")
    floor: Positive = Field(0.01, description="least theta after an update")
    gamma: Annotated[float, Field(ge=0)] = Field(1e-4, description="weight of the regulariser")
    noise_from: Annotated[int, Field(ge=0)] = Field(10, description="epoch, from 0, before which there is no noise; s")
    adversarial_from: Annotated[int, Field(ge=0)] = Field(
        20, description="epoch, from 0, before which training is on clean images alone"
    )


def change(
    parameters: Parameters, network: torch.nn.Module, shape: tuple[int, int, int], classes: int
) -> torch.nn.Module:
    """Return `network` with noise on feature maps, which begins with `noise_from`.

    Raises:
        RedoubtError: a pattern of `before` matches no module.
    """
    started = parameters.noise_from == 0
    return noise.add_feature_noise(network, parameters.before, shape, parameters.initial, started)


def tau(epoch: int, start: int) -> float:
    """Return the harmonic number of the epochs since noise began, that one included; both counted from 0."""
    return sum(1.0 / count for count in range(1, epoch - start + 2))


class Defense(pgd_training.Defense):
    """The loss of adversarial training, and an update of theta before each of its updates."""

    parameters: Parameters

    def groups(self) -> list[Group]:
        """Return theta, which follows the schedule but does not decay."""
        return [Group(noise.weights(self.network), weight_decay=0.0)]

    def regulariser(self, moment: Moment) -> torch.Tensor:
        """Return what makes noise larger, a scalar; equations 7 and 8."""
        total = torch.stack([part.sizes().sqrt().sum() for part in noise.noises(self.network)]).sum()
        return -self.parameters.gamma / tau(moment.epoch, self.parameters.noise_from) * total

    def step(self, batch: Batch, moment: Moment, optimizer: torch.optim.Optimizer) -> tuple[torch.Tensor, torch.Tensor]:
        """Update theta by the regulariser, then weights and theta by the loss; raise theta to its floor."""
        started = moment.epoch >= self.parameters.noise_from
        noise.switch(self.network, started)
        if started:
            optimizer.zero_grad()
            self.regulariser(moment).backward()
            optimizer.step()
        result = super().step(batch, moment, optimizer)
        with torch.no_grad():
            for theta in noise.weights(self.network):
                theta.clamp_min_(self.parameters.floor)
        return result
