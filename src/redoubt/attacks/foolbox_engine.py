"""Foolbox as second engine: the referee that our attacks are held to agree with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import foolbox
import torch


class _Callable(torch.nn.Module):
    """Foolbox asks for a module in eval mode; our attacks take any callable."""

    def __init__(self, network: Callable) -> None:
        super().__init__()
        self.network = [network]  # in a list, so that the module is not registered and its mode stays its own

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.network[0](inputs)


@contextmanager
def _weights_at_rest(network: Callable) -> Iterator[None]:
    """Keep Foolbox's backward passes from leaving gradients in a network's weights."""
    weights = network.parameters() if isinstance(network, torch.nn.Module) else ()
    weights = [weight for weight in weights if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_()


def model(network: Callable, inputs: torch.Tensor, bounds: tuple[float, float] | None) -> foolbox.PyTorchModel:
    """Wrap a network; where the space has no bounds, far ones are set, since Foolbox clips to them."""
    if bounds is None:
        reach = float(inputs.abs().max()) + 1e4
        bounds = (-reach, reach)
    return foolbox.PyTorchModel(_Callable(network).eval(), bounds=bounds, device=inputs.device)


def deepfool(network: Callable, inputs: torch.Tensor, parameters, bounds) -> torch.Tensor:
    """Return Foolbox's l2 DeepFool examples of `inputs`, away from the predicted class."""
    with torch.no_grad():
        predicted = network(inputs).argmax(1)
    attack = foolbox.attacks.L2DeepFoolAttack(
        steps=parameters.iterations, candidates=parameters.candidates, overshoot=parameters.overshoot, loss="logits"
    )
    with _weights_at_rest(network):
        return attack.run(model(network, inputs, bounds), inputs, foolbox.criteria.Misclassification(predicted))


def fgs(network: Callable, inputs: torch.Tensor, labels: torch.Tensor, epsilon: float, bounds) -> torch.Tensor:
    """Return Foolbox's fast-gradient-sign examples at one `epsilon`, in the units of `inputs`."""
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    criterion = foolbox.criteria.Misclassification(labels)
    with _weights_at_rest(network):
        return attack.run(model(network, inputs, bounds), inputs, criterion, epsilon=epsilon)
