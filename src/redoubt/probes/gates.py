"""Gates, a probe of a finished model: small attacks that must rank in a known order, whatever the model is.

Each image is attacked by PGD with few and many steps, with restarts, in half and in twice the ball and in one that
holds every image; by one step, by queries of the logits (Square) and by noise; a random model with few and many draws.
The gradient is compared with a difference of the loss along it. `redoubt.judging.gates` says what must hold.

Source: Athalye, Carlini and Wagner (ICML 2018), section 3.1; Carlini et al. (2019), On Evaluating Adversarial
Robustness, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pydantic import Field

from redoubt.attacks import _expectation as expectation
from redoubt.attacks import _losses as losses
from redoubt.attacks import fgs, interface, pgd, square
from redoubt.attacks._expectation import Expectation
from redoubt.attacks._finite import Finite
from redoubt.attacks._geometry import like, unit
from redoubt.lazily import torch
from redoubt.records import Count, Positive, Strict

NEEDS = "gradients"
THREAT = "none: it reports what attacks find, and perturbs nothing"
COST = "about (7 + 4 x restarts) x steps forward and backward passes, and queries, fewer for images fooled early"
ENGINES = ("redoubt",)
MORE = 4  # many steps or draws are this number of times few
REACH = 0.01  # length of the way along the gradient, as a share of epsilon (in l2) on both sides


class Parameters(Strict):
    """The attacks, in units of the attacked space; the loss is the log-odds, which does not saturate."""

    epsilon: Positive = Field(description="radius of the ball")
    norm: Literal["linf", "l2"] = Field("linf", description="norm of the ball")
    steps: Count = Field(20, description="few steps; many are four times as many")
    restarts: Count = Field(3, description="starts of PGD with many steps")
    queries: Count = Field(500, description="squares tried for an image")
    draws: Count = Field(10, description="few draws of a random model; many are four times as many")


class _Attacked:
    """One batch, and which of its images (B,) attacks turn into misclassified ones."""

    def __init__(self, network: Callable, inputs: torch.Tensor, labels: torch.Tensor, context: interface.Context):
        self.network, self.inputs, self.labels, self.context = network, inputs, labels, context

    def wrong(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.network(inputs).argmax(1) != self.labels

    def by(self, attack: Any, options: dict[str, Any], draws: int | None) -> torch.Tensor:
        seen = self.network if draws is None else Expectation(self.network, draws, judges=max(10, draws))
        batch = interface.Batches(self.inputs, self.labels, len(self.labels))
        (found,) = attack.run(seen, batch, attack.Parameters(**options), self.context)
        return self.wrong(found.inputs)

    def noise(self, epsilon: float, norm: str) -> torch.Tensor:
        draws = self.context.randn(range(len(self.labels)), tuple(self.inputs.shape[1:]), "noise").to(self.inputs)
        moved = self.inputs + epsilon * (draws.sign() if norm == "linf" else unit(draws))
        return self.wrong(moved if self.context.bounds is None else moved.clamp(*self.context.bounds))

    def slopes(self, epsilon: float, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the length of the gradient of the log-odds, and the slope by a difference along it, both (B,).

        Where the gradient is zero the difference is along a random direction. A random model draws alike in all three
        places.
        """
        goal = losses.Goal("log-odds")
        gradient = self._alike(lambda: goal.gradient(self.network, self.inputs, self.labels)[2])
        length = gradient.flatten(1).norm(dim=1)
        other = self.context.randn(range(len(length)), tuple(self.inputs.shape[1:]), "slope").to(self.inputs)
        direction = unit(torch.where(like(length > 0, gradient), gradient, other))
        reach = REACH * epsilon * (self.inputs[0].numel() ** 0.5 if norm == "linf" else 1.0)
        step = reach * direction
        with torch.no_grad():
            ahead, behind = self._alike(partial(self._height, step)), self._alike(partial(self._height, -step))
        return length, (ahead - behind) / (2.0 * reach)

    def _height(self, step: torch.Tensor) -> torch.Tensor:
        return losses.log_odds(self.network(self.inputs + step), self.labels)

    def _alike(self, ask: Callable[[], torch.Tensor]) -> torch.Tensor:
        with torch.random.fork_rng([self.inputs.device] if self.inputs.device.type == "cuda" else []):
            torch.manual_seed(0)
            return ask()


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the images as they are.

    Facts (B,), bool: wrong_few, wrong_many, wrong_restarts, wrong_half, wrong_double, wrong_unbounded, wrong_single,
    wrong_black and wrong_noise; of a random model also wrong_draws, few steps by many draws: of one that
    has layers with a switch `still`, or whose predictions differ from call to call. Facts (B,), floats: gradient and
    difference, see `slopes`; moved, the share of the batch's gradients that were not finite.
    """
    module = interface.module_of(network)
    random = module is not None and any(hasattr(part, "still") for part in module.modules())
    random = random or expectation.differs(network, batches.images)
    for start, inputs, labels in batches:
        places = range(start, start + len(labels)) if context.positions is None else context.positions[start:]
        own = replace(context, positions=torch.as_tensor(list(places)[: len(labels)]))
        finite = Finite(network, context.bounds)
        batch = _Attacked(finite, inputs, labels, own)
        facts = _facts(batch, parameters, parameters.draws if random else None)
        moved = torch.full((len(labels),), finite.share_checked())
        yield interface.Crafted(start, inputs, {**facts, "moved": moved})


def _facts(batch: _Attacked, parameters: Parameters, draws: int | None) -> dict[str, Any]:
    epsilon, norm, steps = parameters.epsilon, parameters.norm, parameters.steps
    few = {"norm": norm, "epsilons": [epsilon], "steps": steps, "relative_step_size": 2.5 / steps, "loss": "log-odds"}
    many = {**few, "steps": MORE * steps, "relative_step_size": 2.5 / (MORE * steps)}
    bounds = batch.context.bounds or tuple(float(end) for end in batch.inputs.aminmax())
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "few": (pgd, few),
        "many": (pgd, many),
        "restarts": (pgd, {**many, "restarts": parameters.restarts}),
        "half": (pgd, {**few, "epsilons": [epsilon / 2]}),
        "double": (pgd, {**few, "epsilons": [2 * epsilon]}),
        "unbounded": (pgd, {**many, "norm": "linf", "epsilons": [bounds[1] - bounds[0]]}),
        "single": (fgs if norm == "linf" else pgd, _single(few)),
        "black": (square, {"norm": norm, "epsilons": [epsilon], "iterations": parameters.queries}),
    }
    facts = {f"wrong_{name}": batch.by(attack, options, draws) for name, (attack, options) in ways.items()}
    facts["wrong_noise"] = batch.noise(epsilon, norm)
    if draws is not None:
        facts["wrong_draws"] = batch.by(pgd, few, MORE * draws)
    facts["gradient"], facts["difference"] = batch.slopes(epsilon, norm)
    return facts


def _single(few: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of one step as long as the ball's radius, without a random start."""
    if few["norm"] == "linf":
        return {"epsilons": few["epsilons"], "loss": few["loss"]}
    return {**few, "steps": 1, "relative_step_size": 1.0, "random_start": False}
