"""The optimizer of a training: its groups of weights, and its state by their names."""

from __future__ import annotations

import torch

from redoubt.defenses.interface import BaseDefense, Group
from redoubt.errors import RedoubtError
from redoubt.study.entries.model import Training


class NamedOptimizer:
    """SGD or Adam on the weights of a network, whose state is kept by the weights' names.

    Args:
        network: its weights that require a gradient are updated.
        defense: says which weights differ from the schedule, and which tensors of its state are updated.
        schedule: optimizer, momentum and weight decay.

    Raises:
        RedoubtError: a group names a weight that does not exist, or two groups the same.
    """

    def __init__(self, network: torch.nn.Module, defense: BaseDefense, schedule: Training) -> None:
        self.weights: dict[str, torch.Tensor] = {f"network.{name}": own for name, own in network.named_parameters()}
        own = {f"defense.{name}": tensor for name, tensor in defense.state().items()}
        groups = [(self._names(group, own), group) for group in defense.groups()]
        self.weights |= {name: own[name] for names, _ in groups for name in names if name in own}
        grouped = [name for names, _ in groups for name in names]
        if twice := {name for name in grouped if grouped.count(name) > 1}:
            raise RedoubtError(f"groups of the defense: {min(twice)} is in two of them")
        rest = [name for name in self.weights if name not in grouped]
        self.weights = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        kinds = [(rest, Group([])), *groups]
        self.torch = _made([self._options(names, group, schedule) for names, group in kinds], schedule)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of every group to its factor of `rate`."""
        for group in self.torch.param_groups:
            group["lr"] = rate * group["factor"]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state as `name of the weight.key`."""
        state = self.torch.state
        return {
            f"{name}.{key}": value
            for name, weight in self.weights.items()
            for key, value in state.get(weight, {}).items()
            if torch.is_tensor(value)
        }

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restore the state that `tensors` gave; Adam's step counts stay on the CPU."""
        for full, value in tensors.items():
            name, key = full.rsplit(".", 1)
            weight = self.weights[name]
            self.torch.state[weight][key] = value if value.dim() == 0 else value.to(weight.device)

    def _options(self, names: list[str], group: Group, schedule: Training) -> dict:
        decay = schedule.weight_decay if group.weight_decay is None else group.weight_decay
        weights = [self.weights[name] for name in names if name in self.weights]
        return {"params": weights, "weight_decay": decay, "factor": group.learning_rate}

    def _names(self, group: Group, own: dict[str, torch.Tensor]) -> list[str]:
        """Return the full names of the weights of a group."""
        result = []
        for weight in group.weights:
            everything = self.weights | own
            if isinstance(weight, str):
                inside = (f"network.{weight}", f"network.{weight}.")
                found = [name for name in self.weights if name == inside[0] or name.startswith(inside[1])]
            else:
                found = [name for name, tensor in everything.items() if tensor is weight]
            if not found:
                what = repr(weight) if isinstance(weight, str) else f"a tensor {tuple(weight.shape)}"
                raise RedoubtError(f"groups of the defense: {what} is no weight of the network or of its state")
            result += found
        return result


def _made(groups: list[dict], schedule: Training) -> torch.optim.Optimizer:
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, schedule.learning_rate, schedule.momentum, nesterov=schedule.nesterov)
    return torch.optim.Adam(groups, schedule.learning_rate, (schedule.momentum, 0.999))
