"""A random model as an attack sees it: several draws for every question, and more to judge a point that is kept.

Source: Athalye, Engstrom, Ilyas and Kwok (ICML 2018), section 2, for the mean over draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

from redoubt.lazily import lazy, torch

if TYPE_CHECKING:
    from redoubt.networks import _random as random
else:
    random = lazy("redoubt.networks._random")

Mean = Literal["loss", "probabilities", "logits"]


@dataclass(frozen=True)
class Expectation:
    """A random model as a callable that averages over draws; gradients flow through all of them.

    Each draw is a separate call, which is new noise for a model that draws once a call and for one that draws for every
    image alike. Attacks that follow a loss ask `redoubt.attacks._losses.Goal`, which averages what `mean` says; those
    that look at logits alone call this, and get their mean, or the logarithm of the mean probability.

    Attributes:
        network: inputs (B, ...) to logits (B, classes), random.
        draws: calls averaged.
        mean: of what: the loss of each draw, the probabilities, or the logits.
        judges: draws whose mean margin says which of several points an attack keeps, those above included.

    Cost: `draws` forward and backward passes for each of the attack's, and the forward passes of further judges.
    """

    network: Callable
    draws: int = 1
    mean: Mean = "loss"
    judges: int = 1

    def each(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (draws, B, classes) of every draw."""
        return torch.stack([self.network(inputs) for _ in range(self.draws)])

    def combined(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, classes) that stand for those of several draws (draws, B, classes)."""
        return random.mean_softmax(logits) if self.mean == "probabilities" else logits.mean(0)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return them for inputs (B, ...)."""
        return self.combined(self.each(inputs))

    def parts(self) -> list[Self]:
        """Return what gradients are taken of one after the other: single draws where the loss is averaged."""
        return [replace(self, draws=1)] * self.draws if self.mean == "loss" else [self]

    def further(self) -> Self | None:
        """Return the judges that have not been asked when the draws have; None where there are none."""
        return replace(self, draws=self.judges - self.draws) if self.judges > self.draws else None


TRIED = 64  # images that are asked twice


def differs(network: Callable, inputs: torch.Tensor) -> bool:
    """Return whether a model draws: two predictions of the first of inputs (N, ...) differ by more than rounding."""
    with torch.no_grad():
        first, second = (network(inputs[:TRIED]) for _ in range(2))
    return not torch.allclose(first, second, rtol=1e-3, atol=1e-4)
