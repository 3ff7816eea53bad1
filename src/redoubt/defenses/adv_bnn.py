"""Adv-BNN: a Bayesian network, whose weights are independent Gaussians, trained on adversarial examples.

Every call draws all weights and biases again, those of batch normalisation too. The loss is the cross-entropy of PGD
examples by one draw, plus weight / N times the divergence of the weights' distribution from a prior, where N is the
number of training images. A prediction is the mean softmax of several draws.

Source: Liu, Li, Wu and Hsieh (ICLR 2019), and their public code: initial means and log(sigma), see
`redoubt.networks._noise.randomise`; 10 steps of 0.007 from the image, by a network in eval mode that draws again for
every step, away from the true class. Prior and initial sigma are 0.08 with a
weight of 1 in its script, and 0.1 with a weight of 0.02 in its README. As released, its network for CIFAR-10 adds the
divergence of the last layer alone (`kl: last`). Compared in Learn2Perturb, which prints no settings.

At 0.08 the noise on the convolutions of a ResNet-20 is larger than their initial means, so that draws are different
networks, and training must first make the means grow, which the divergence works against. A schedule that is cut should
begin with a smaller sigma and a smaller weight.

Deviation: where the code begins a new Adam whenever the learning rate drops, the optimizer keeps its state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from redoubt.defenses import _examples, pgd_training
from redoubt.defenses.interface import Batch, Declaration, Moment
from redoubt.lazily import lazy, torch
from redoubt.records import Count, Positive

if TYPE_CHECKING:
    from redoubt.networks import _noise as noise
    from redoubt.networks import _random as drawn
else:
    noise, drawn = lazy("redoubt.networks._noise"), lazy("redoubt.networks._random")

DECLARES = Declaration(
    draws="call", predicts="mean", pretrained=False, changes=True, adaptive=("mean-of-draws", "twin")
)


class Parameters(pgd_training.Parameters):
    """The weights' distribution, predictions, and the examples; lengths are in units of images in [0, 1]."""

    prior_std: Positive = Field(0.08, description="standard deviation of the prior of every weight")
    initial_std: Positive = Field(0.08, description="sigma of every weight at the start")
    kl_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the divergence, which is divided by the number of training images"
    )
    kl: Literal["all", "last"] = Field("all", description="layers whose divergence counts")
    draws: Count = Field(20, description="draws whose softmax a prediction averages")
    step_size: Positive = Field(0.007, description="length of a step")
    random_start: bool = Field(False, description="start anywhere in the ball; at the image when false")
    mode: _examples.Mode = "eval"


def change(
    parameters: Parameters, network: torch.nn.Module, shape: tuple[int, int, int], classes: int
) -> drawn.MeanOfDraws:
    """Return `network` with Gaussian weights and new means, which predicts by the mean of draws."""
    return drawn.MeanOfDraws(noise.randomise(network, parameters.initial_std), parameters.draws)


class Defense(pgd_training.Defense):
    """The loss of adversarial training, plus the divergence."""

    parameters: Parameters
    network: drawn.MeanOfDraws

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, classes) of one draw, by which examples are made."""
        return self.network.network(self.inputs(images))

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss, and the logits (B, classes) that adversarial training returns."""
        loss, logits = super().loss(batch, moment)
        return loss + self.parameters.kl_weight / moment.count * self.divergence(), logits

    def divergence(self) -> torch.Tensor:
        """Return the divergence of all layers or of the last, a scalar in nats."""
        found = noise.divergences(self.network, self.parameters.prior_std)
        return found[-1] if self.parameters.kl == "last" else torch.stack(found).sum()
