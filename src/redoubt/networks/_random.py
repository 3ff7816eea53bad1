"""Networks that draw: predictions by the mean of several draws, and networks without their noise.

A layer that draws, from torch's global generator, has a switch `still`: while it is True the layer draws nothing, its
noise being zero and its weights their means. A network that predicts by the mean of several draws has

    each_draw(inputs) -> (draws, B, classes)

the logits of those draws, whose `mean_softmax` is its prediction in eval mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch

from redoubt.errors import RedoubtError


@runtime_checkable
class _Noisy(Protocol):
    """A layer whose noise can be switched off."""

    still: bool


def mean_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean probability (B, classes) over the logits (draws, B, classes) of several draws.

    It serves as logits: its softmax is that mean.
    """
    return logits.log_softmax(2).logsumexp(0) - math.log(len(logits))


class MeanOfDraws(torch.nn.Module):
    """A random network that in eval mode predicts by the mean softmax of several draws, each a separate call.

    Args:
        network: inputs (B, ...) to logits (B, classes), random in eval mode.
        draws: n, calls that a prediction is averaged over.

    Cost: n forward and backward passes for each prediction in eval mode, one in training.
    """

    def __init__(self, network: torch.nn.Module, draws: int) -> None:
        super().__init__()
        self.network, self.draws = network, draws

    def each_draw(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, B, classes) of n draws."""
        return torch.stack([self.network(inputs) for _ in range(self.draws)])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, classes) of one draw in training mode, log-probabilities (B, classes) in eval mode."""
        return self.network(inputs) if self.training else mean_softmax(self.each_draw(inputs))


@contextmanager
def without_noise(network: torch.nn.Module) -> Iterator[None]:
    """Switch the noise of a network off; at the end every layer draws as it did before.

    Raises:
        RedoubtError: no layer has a switch `still`.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _Noisy)]
    if not layers:
        raise RedoubtError("noise: none: the model has no layer whose noise can be switched off")
    before = [layer.still for layer in layers]
    try:
        for layer in layers:
            layer.still = True
        yield
    finally:
        for layer, still in zip(layers, before, strict=True):
            layer.still = still
