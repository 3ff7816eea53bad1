"""What gradient attacks ascend: one number per image, higher where the label is less likely.

The cross-entropy is what most papers follow. For a confident model float32 does not hold its gradient: at a margin
above 16.6 the label's term is lost and signs are wrong, above 103 all terms are, and signs are zero; see
`redoubt.probes.gradient_signs`. The other two do not saturate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from redoubt.attacks import _counting as counting
from redoubt.attacks import _expectation as expectation
from redoubt.lazily import lazy, torch

if TYPE_CHECKING:
    from redoubt.attacks import _input_gradients as input_gradients
else:
    input_gradients = lazy("redoubt.attacks._input_gradients")

Name = Literal["cross-entropy", "log-odds", "margin"]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return -log p(label) of logits (N, classes) and labels (N,), as (N,)."""
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def _of_label_and_others(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    column = labels[:, None]
    return logits.gather(1, column)[:, 0], logits.scatter(1, column, float("-inf"))


def log_odds(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return log((1 - p(label)) / p(label)); it rises with the cross-entropy, so single steps along its sign agree."""
    own, others = _of_label_and_others(logits, labels)
    return others.logsumexp(1) - own


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the highest other logit less the label's: above zero where the image is misclassified.

    Source: Carlini and Wagner (S&P 2017), objective f6 without its floor.
    """
    own, others = _of_label_and_others(logits, labels)
    return others.amax(1) - own


LOSSES: dict[str, Callable] = {"cross-entropy": cross_entropy, "log-odds": log_odds, "margin": margin}


@dataclass(frozen=True)
class Look:
    """What a model shows of a batch."""

    logits: torch.Tensor  # (B, classes), their mean over draws of a random model
    height: torch.Tensor  # (B,) what is ascended
    reached: torch.Tensor  # (B,) bool: it is as wanted; of a random model, in the mean over draws
    rank: torch.Tensor  # (B,) by which points compare: the height, or the mean margin over a random model's draws


class Goal:
    """What an attack wants of a prediction, and the height that it climbs to get it.

    Args:
        loss: whose gradient is followed.
        target: target class; None: any class but the true one.
    """

    def __init__(self, loss: Name, target: int | None = None) -> None:
        self.loss, self.target = LOSSES[loss], target

    def reached(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Tell of each image (B,) whether logits (B, classes) are as wanted."""
        predicted = logits.argmax(1)
        return predicted != labels if self.target is None else predicted == self.target

    def height(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return what is ascended (B,): the loss at the true label, or minus the loss at the target."""
        if self.target is None:
            return self.loss(logits, labels)
        return -self.loss(logits, torch.full_like(labels, self.target))

    def margin(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return by how much (B,) logits (B, classes) are as wanted; below zero where they are not."""
        if self.target is None:
            return margin(logits, labels)
        return -margin(logits, torch.full_like(labels, self.target))

    def look(self, network: Callable, inputs: torch.Tensor, labels: torch.Tensor, judged: bool = True) -> Look:
        """Ask a model about inputs (B, ...) of labels (B,); gradients flow where they are on.

        Of a random model the loss of each draw is averaged, or what else its `mean` says. All of its judges say what is
        reached and how points rank; without `judged` only the draws do.
        """
        network = _uncounted(network, torch.is_grad_enabled())
        if not isinstance(network, expectation.Expectation):
            logits = network(inputs)
            height = self.height(logits, labels)
            return Look(logits, height, self.reached(logits, labels), height.detach())
        draws = network.each(inputs)
        logits = network.combined(draws)
        if network.mean == "loss":
            height = torch.stack([self.height(draw, labels) for draw in draws]).mean(0)
        else:
            height = self.height(logits, labels)
        rank = torch.stack([self.margin(draw, labels) for draw in draws.detach()]).mean(0)
        look = Look(logits, height, rank > 0, rank)
        return self._judged(network, inputs, labels, look) if judged else look

    def gradient(
        self, network: Callable, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits (B, classes), height (B,) and the height's gradient (B, ...) at `inputs`, see `ascent`."""
        look, gradient = self.ascent(network, inputs, labels, judged=False)
        return look.logits, look.height, gradient

    def ascent(
        self, network: Callable, inputs: torch.Tensor, labels: torch.Tensor, judged: bool = True
    ) -> tuple[Look, torch.Tensor]:
        """Return a look at `inputs`, without gradients, and the height's gradient (B, ...) there.

        Cost: one forward and one backward pass; for a random model see `Expectation`.
        """
        network = _uncounted(network, True)
        if not isinstance(network, expectation.Expectation):
            return self._gradient(network, inputs, labels)
        looks, gradients = zip(*(self._gradient(part, inputs, labels) for part in network.parts()), strict=True)
        names = ("logits", "height", "rank")
        logits, height, rank = (torch.stack([getattr(look, name) for look in looks]).mean(0) for name in names)
        look = Look(logits, height, rank > 0, rank)
        return self._judged(network, inputs, labels, look) if judged else look, torch.stack(gradients).mean(0)

    def _gradient(self, network: Callable, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[Look, torch.Tensor]:
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():
            with input_gradients.InputGradients():
                look = self.look(network, inputs, labels, judged=False)
            gradient = torch.autograd.grad(look.height.sum(), inputs)[0]
        return replace(look, logits=look.logits.detach(), height=look.height.detach()), gradient

    def _judged(self, network: expectation.Expectation, inputs: torch.Tensor, labels: torch.Tensor, look: Look) -> Look:
        """Return a look at a random model with the verdict of all of its judges."""
        if (others := network.further()) is None:
            return look
        with torch.no_grad():
            more = self.look(others, inputs, labels, judged=False)
        rank = (network.draws * look.rank + others.draws * more.rank) / network.judges
        return replace(look, rank=rank, reached=rank > 0)


def _uncounted(network: Callable, backward: bool) -> Callable:
    """Return the random model behind a count, which has then counted a pass, and one back; any other as it is."""
    return (network.drawn(backward) if isinstance(network, counting.Counted) else None) or network
