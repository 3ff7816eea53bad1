"""Parametric noise injection (PNI): Gaussian noise on weights, whose size is trained with them on adversarial examples.

A weight W is used as W + alpha n std(W), with a standard normal n that is drawn again in every call; every convolution
and the classifier have it, in training and afterwards. The loss is half that of the clean images and half that of PGD
examples of the noisy network.

Source: He, Rakin and Fan (CVPR 2019), and their public code, whose last version has the defaults below: alpha by layer
(by channel in the labels of its last training), 0.25 at the start, updated as weights are but without decay; 7 steps of
0.01 in a ball of 0.031 from a random start, by a network in eval mode with noise, away from the class that it predicts;
examples from the sixth epoch on. Compared in Learn2Perturb.
Deviation: the class that examples leave is that of the clean images' pass; the code asks a copy in training mode once
more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from redoubt.defenses import pgd_training
from redoubt.defenses.interface import Declaration, Group
from redoubt.lazily import lazy, torch
from redoubt.records import Positive

if TYPE_CHECKING:
    from redoubt.networks import _noise as noise
else:
    noise = lazy("redoubt.networks._noise")

DECLARES = Declaration(draws="call", pretrained=False, changes=True, adaptive=("mean-of-draws", "twin"))


class Parameters(pgd_training.Halves):
    """The noise, and the examples that are trained on; lengths are in units of images in [0, 1]."""

    by: Literal["layer", "channel", "element"] = Field(
        "layer", description="what has an alpha: a layer, each of its output channels, or each element of its weight"
    )
    initial: Positive = Field(0.25, description="alpha at the start, in standard deviations of the layer's weight")
    epsilon: Positive = Field(0.031, description="radius of the ball")
    adversarial_from: Annotated[int, Field(ge=0)] = Field(
        5, description="epoch, from 0, before which training is on clean images alone"
    )


def change(
    parameters: Parameters, network: torch.nn.Module, shape: tuple[int, int, int], classes: int
) -> torch.nn.Module:
    """Return `network` with noise on the weights of its convolutions and linear layers."""
    return noise.add_weight_noise(network, parameters.by, parameters.initial)


class Defense(pgd_training.Defense):
    """The loss of adversarial training; alphas do not decay."""

    def groups(self) -> list[Group]:
        """Return the sizes of the noise, which follow the schedule but do not decay."""
        return [Group(noise.weights(self.network), weight_decay=0.0)]
