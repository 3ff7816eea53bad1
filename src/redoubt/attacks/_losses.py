"""What gradient attacks ascend: one number per image, higher where the label is less likely.

The cross-entropy is what most papers follow. For a confident model float32 does not hold its gradient: at a margin
above 16.6 the label's term is lost and signs are wrong, above 103 all terms are, and signs are zero; see
`redoubt.probes.gradient_signs`. The other two do not saturate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

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

    def gradient(
        self, network: Callable, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits (B, classes), height (B,) and the height's gradient (B, ...) at `inputs`.

        Cost: one forward and one backward pass.
        """
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():
            with input_gradients.InputGradients():
                logits = network(inputs)
            height = self.height(logits, labels)
            gradient = torch.autograd.grad(height.sum(), inputs)[0]
        return logits.detach(), height.detach(), gradient
