"""Expectation over transformation: attack the mean of a random model, by independent draws for every copy of an image.

Source: Athalye, Engstrom, Ilyas and Kwok (ICML 2018), section 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


class Expectation:
    """A random model as a callable that averages its logits over draws; gradients flow through all of them.

    Args:
        network: inputs (B, ...) to logits (B, classes), random.
        draws: forward passes averaged.
        together: all copies go through the network as one batch, for models that draw for every image on its own; when
            False each copy has a separate call, for models that draw once a call (as one set of peers).

    Cost: `draws` forward and backward passes for each of the attack's.
    """

    def __init__(self, network: Callable, draws: int, together: bool = True) -> None:
        self.network, self.draws, self.together = network, draws, together

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean logits (B, classes)."""
        if not self.together:
            return torch.stack([self.network(inputs) for _ in range(self.draws)]).mean(0)
        copies = inputs.expand(self.draws, *inputs.shape).flatten(0, 1)
        logits = self.network(copies)
        return logits.view(self.draws, len(inputs), -1).mean(0)
