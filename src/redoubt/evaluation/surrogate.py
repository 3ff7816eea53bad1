"""Surrogates: a model as an adaptive attack sees it in crafting; scores are those of the model itself.

Source: Athalye, Carlini and Wagner (ICML 2018), section 4, for stand-ins; Carlini and Wagner (AISec 2017), for attacks
that evade a detector; Carlini and Wagner (S&P 2017), section V-D, for logits that are scaled down.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from redoubt.data import store
from redoubt.errors import RedoubtError
from redoubt.evaluation.victim import BATCH, Images, Victim
from redoubt.networks import _stand_ins as stand_ins
from redoubt.study.entries.attack import Attack, Follow, Gradient


class Surrogate(torch.nn.Module):
    """A model with the same outputs, whose backward pass puts something in place of some layers.

    The temperature of soft neighbours falls from call to call with gradients, from `temperature` to `coldest` within
    `over` calls, and then starts again; `restart` starts again too.

    Args:
        network: a module that holds layers with an attribute `stand_in`, as peer layers have.
        gradient: straight-through, soft-neighbours or many-neighbours; see `redoubt.networks._stand_ins`.
        follow: parameters of the last two.

    Raises:
        RedoubtError: it holds no such layer.
    """

    def __init__(
        self, network: torch.nn.Module, gradient: Gradient = "straight-through", follow: Follow | None = None
    ) -> None:
        super().__init__()
        self.network, self.training = network, network.training
        self.gradient, self.follow, self.calls = gradient, follow or Follow(), 0
        if not any(isinstance(layer, stand_ins.Replaceable) for layer in network.modules()):
            raise RedoubtError(f"gradient: {gradient}: the model has no layer that gradients could pass by")

    def restart(self) -> None:
        """Begin again with the first temperature."""
        self.calls = 0

    def temperature(self) -> float:
        """Return the temperature of the next call."""
        way = (self.calls % self.follow.over) / max(self.follow.over - 1, 1)
        return self.follow.temperature * (self.follow.coldest / self.follow.temperature) ** way

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (B, classes)."""
        if self.gradient == "straight-through":
            stand_in: stand_ins.StandIn = stand_ins.identity
        else:
            heat = self.temperature() if self.gradient == "soft-neighbours" else None
            stand_in = partial(stand_ins.near, count=self.follow.nearest, temperature=heat)
        self.calls += torch.is_grad_enabled()
        with stand_ins.replaced(self.network, stand_in):
            return self.network(inputs)


class FreshPeers(torch.nn.Module):
    """A peer network that draws its fixed peers again for every call, from a pool and by torch's global generator.

    Args:
        network: a module that has one part with `set_peers`; it is copied, and its own peers stay.
        pool: (P, ...) what that part sees of training images.

    Cost: each call passes all peers through the network.
    """

    def __init__(self, network: torch.nn.Module, pool: torch.Tensor) -> None:
        super().__init__()
        self.network, self.training, self.pool = copy.deepcopy(network), network.training, pool
        parts = [part for part in self.network.modules() if hasattr(part, "set_peers")]
        if not parts:
            raise RedoubtError("surrogate.peers: fresh: the model has no peers that could be drawn again")
        self.peered: Any = parts[0]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, classes) of one draw of peers."""
        with torch.no_grad():
            self.peered.set_peers(self.pool)
        return self.network(inputs)


class Scaled(torch.nn.Module):
    """A model whose logits are `scale` times as large, so that a loss of theirs does not saturate."""

    def __init__(self, network: torch.nn.Module, scale: float) -> None:
        super().__init__()
        self.network, self.training, self.scale = network, network.training, scale

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes)."""
        return self.scale * self.network(inputs)


class Evading(torch.nn.Module):
    """A model whose logit at the true class rises with what its detector marks, so that attacks stay undetected.

    Attacks show the model no labels: an input has that of the nearest clean image. What is added is `weight` times the
    sum, over detectors, of how far a mark exceeds `CLEAR` of its threshold, as a share of the threshold.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        marks: inputs (B, ...) to marks (B, detectors) over thresholds, differentiable.
        clean: (N, ...) the attacked inputs.
        labels: (N,) their classes.
        weight: in units of a logit.
    """

    CLEAR = 0.9

    def __init__(
        self, network: torch.nn.Module, marks: Callable, clean: torch.Tensor, labels: torch.Tensor, weight: float
    ) -> None:
        super().__init__()
        self.network, self.training, self.marks = network, network.training, marks
        self.clean, self.labels, self.weight = clean.flatten(1), labels, weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (B, classes), with the penalty at the true class."""
        logits = self.network(inputs)
        with torch.no_grad():
            labels = self.labels[torch.cdist(inputs.flatten(1), self.clean).argmin(1)]
        excess = (self.marks(inputs) - self.CLEAR).clamp_min(0.0).sum(1, keepdim=True)
        own = torch.nn.functional.one_hot(labels, logits.shape[1]).to(logits)
        return logits + self.weight * excess * own


def surrogate_of(source: Victim, entry: Attack, images: Images, data: Path) -> torch.nn.Module:
    """Return the model that examples are crafted on, as an entry says that its attack sees it.

    Args:
        source: that model.
        entry: of the attack.
        images: that are attacked.
        data: folder of the dataset, for fresh peers.

    Raises:
        RedoubtError: the model has nothing that the entry asks to follow.
    """
    network, follow = source.network, entry.surrogate
    if follow.peers == "fresh":
        pool = store.load(data, "train").images(slice(0, follow.pool)).to(images.pixels.device).float() / 255.0
        with torch.no_grad():
            network = FreshPeers(network, torch.cat([source.layer(part) for part in pool.split(BATCH)]))
    if entry.gradient != "exact":
        network = Surrogate(network, entry.gradient, follow)
    if follow.scale != 1.0:
        network = Scaled(network, follow.scale)
    if follow.detector:
        network = Evading(network, source.reports, source.inputs(images.pixels), images.labels, follow.detector)
    return network


def restart(network: torch.nn.Module) -> None:
    """Begin again with the first temperature, as for every batch, so that batches do not depend on each other."""
    for part in network.modules():
        if isinstance(part, Surrogate):
            part.restart()
