"""One step of SGD or Adam, through torch's functional update rules.

`torch.optim.Optimizer` imports torch's compiler when it is made, which costs every training job a second of start-up
and is used by nothing here; the rules themselves are the same functions. State is kept by the weights' names, as
training saves it.
"""

from __future__ import annotations

import torch
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from redoubt.study.entries.model import Training


class Updates:
    """Apply a schedule's update rule to all weights of a network that are not frozen.

    Args:
        network: its weights are changed in place.
        schedule: optimizer, momentum and weight decay; the learning rate is given to every step.
    """

    def __init__(self, network: torch.nn.Module, schedule: Training) -> None:
        self.schedule = schedule
        self.weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self.state: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self.weights}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for weight in self.weights.values():
            weight.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the weights that have a gradient."""
        moved = {name: weight for name, weight in self.weights.items() if weight.grad is not None}
        state = [self.state[name] for name in moved]
        weights, gradients = list(moved.values()), [weight.grad for weight in moved.values()]
        options = {"lr": learning_rate, "weight_decay": self.schedule.weight_decay, "maximize": False}
        if self.schedule.optimizer == "sgd":
            momenta = [own.get("momentum_buffer") for own in state]
            sgd(weights, gradients, momenta, momentum=self.schedule.momentum, dampening=0, nesterov=False, **options)
            for own, momentum in zip(state, momenta, strict=True):
                if momentum is not None:
                    own["momentum_buffer"] = momentum
            return
        for own, weight in zip(state, weights, strict=True):
            if not own:
                own |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(weight)}
                own["exp_avg_sq"] = torch.zeros_like(weight)
        columns = [[own[key] for own in state] for key in ("exp_avg", "exp_avg_sq")]
        steps = [own["step"] for own in state]
        betas = {"beta1": self.schedule.momentum, "beta2": 0.999, "eps": 1e-8}
        adam(weights, gradients, *columns, [], steps, amsgrad=False, **betas, **options)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state as `weight's name.key`."""
        return {f"{name}.{key}": value for name, own in self.state.items() for key, value in own.items()}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up the state that `tensors` gave; Adam's step counts stay on the CPU."""
        for full, value in tensors.items():
            name, key = full.rsplit(".", 1)
            self.state[name][key] = value if value.dim() == 0 else value.to(self.weights[name].device)
