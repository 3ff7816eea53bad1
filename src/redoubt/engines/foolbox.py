"""Foolbox as second engine: an independent implementation that the attacks of this package are compared with.

`ATTACKS` has by name a function `run(network, batches, parameters, context)` as the modules in `redoubt.attacks` do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import eagerpy
import foolbox
import torch
from foolbox.attacks.spatial_attack_transformations import rotate_and_shift

from redoubt.attacks import fgs, gradient_scan, spatial
from redoubt.attacks._geometry import like
from redoubt.attacks.interface import Batches, Context, Crafted, module_of
from redoubt.errors import RedoubtError

if TYPE_CHECKING:  # so that the code of one attack here does not depend on that of the others
    from redoubt.attacks.carlini_wagner import Parameters as CarliniWagner
    from redoubt.attacks.ddn import Parameters as DDN
    from redoubt.attacks.deepfool import Parameters as DeepFool
    from redoubt.attacks.fmn import Parameters as FMN
    from redoubt.attacks.pgd import Parameters as PGD


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
    module = module_of(network)
    weights = [] if module is None else [weight for weight in module.parameters() if weight.requires_grad]
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


def deepfool(network: Callable, batches: Batches, parameters: DeepFool, context: Context) -> Iterator[Crafted]:
    """Yield Foolbox's l2 DeepFool examples, away from the predicted class."""
    for start, inputs, _ in batches:
        yield Crafted(start, _deepfool(network, inputs, parameters, context.bounds))


def _deepfool(
    network: Callable, inputs: torch.Tensor, parameters: DeepFool, bounds: tuple[float, float] | None
) -> torch.Tensor:
    with torch.no_grad():
        predicted = network(inputs).argmax(1)
    attack = foolbox.attacks.L2DeepFoolAttack(
        steps=parameters.iterations, candidates=parameters.candidates, overshoot=parameters.overshoot, loss="logits"
    )
    with _weights_at_rest(network):
        return attack.run(model(network, inputs, bounds), inputs, foolbox.criteria.Misclassification(predicted))


def fast_gradient_sign(
    network: Callable, batches: Batches, parameters: fgs.Parameters, context: Context
) -> Iterator[Crafted]:
    """Yield Foolbox's fast-gradient-sign examples, epsilon by epsilon.

    Raises:
        RedoubtError: a parameter that Foolbox does not have.
    """
    if parameters.loss != "cross-entropy":
        raise RedoubtError("fgs: Foolbox's engine needs `loss: cross-entropy`")
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)

    def move(_: int, inputs: torch.Tensor, labels: torch.Tensor, epsilon: float) -> torch.Tensor:
        criterion = foolbox.criteria.Misclassification(labels)
        with _weights_at_rest(network):
            return attack.run(model(network, inputs, context.bounds), inputs, criterion, epsilon=epsilon)

    yield from fgs.sweep(network, batches, parameters, context, move)


def pgd(network: Callable, batches: Batches, parameters: PGD, context: Context) -> Iterator[Crafted]:
    """Yield Foolbox's PGD examples, epsilon by epsilon, each after all steps of one start.

    Raises:
        RedoubtError: a parameter that Foolbox does not have.
    """
    if parameters.loss != "cross-entropy" or parameters.restarts > 1 or parameters.stop:
        raise RedoubtError("pgd: Foolbox's engine needs `loss: cross-entropy`, `restarts: 1` and `stop: false`")
    for epsilon in parameters.epsilons:
        for start, inputs, labels in batches:
            moved = _pgd(network, inputs, labels, epsilon, parameters, context, start)
            yield Crafted(start, moved, {"epsilon": epsilon})


def _pgd(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    parameters: PGD,
    context: Context,
    first: int,
) -> torch.Tensor:
    """Foolbox draws a start from torch's global generator: it is seeded for the batch that begins at image `first`."""
    kind = foolbox.attacks.LinfPGD if parameters.norm == "linf" else foolbox.attacks.L2PGD
    attack = kind(abs_stepsize=parameters.length(epsilon), steps=parameters.steps, random_start=parameters.random_start)
    criterion: foolbox.criteria.Criterion
    if parameters.target is None:
        criterion = foolbox.criteria.Misclassification(labels)
    else:
        criterion = foolbox.criteria.TargetedMisclassification(torch.full_like(labels, parameters.target))
    (own,) = context.generators([first], "foolbox", epsilon)
    with _weights_at_rest(network), torch.random.fork_rng():
        torch.manual_seed(own.initial_seed())
        return attack.run(model(network, inputs, context.bounds), inputs, criterion, epsilon=epsilon)


def scan(
    network: Callable, batches: Batches, parameters: gradient_scan.Parameters, context: Context
) -> Iterator[Crafted]:
    """Yield the shortest of Foolbox's single steps that succeed.

    Raises:
        RedoubtError: a parameter that Foolbox does not have.
    """
    if parameters.loss != "cross-entropy" or parameters.target is not None:
        raise RedoubtError("gradient-scan: Foolbox's engine needs `loss: cross-entropy` and `target: null`")

    def stepper(inputs: torch.Tensor, labels: torch.Tensor) -> gradient_scan.Move:
        return lambda rows, lengths: _one_step(network, inputs[rows], labels[rows], lengths, parameters, context.bounds)

    yield from gradient_scan.scan(network, batches, parameters, stepper)


def _one_step(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    lengths: torch.Tensor,
    parameters: gradient_scan.Parameters,
    bounds: tuple[float, float] | None,
) -> torch.Tensor:
    """Return Foolbox's single steps of the given lengths (B,), along signs or gradients of unit root mean square."""
    sign = parameters.direction == "sign"
    kind = foolbox.attacks.LinfFastGradientAttack if sign else foolbox.attacks.L2FastGradientAttack
    scale = 1.0 if sign else inputs[0].numel() ** 0.5  # of unit l2 norm there
    moved = inputs.clone()
    with _weights_at_rest(network):
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            criterion = foolbox.criteria.Misclassification(labels[rows])
            victim = model(network, inputs[rows], bounds)
            moved[rows] = kind(random_start=False).run(victim, inputs[rows], criterion, epsilon=length * scale)
    return moved


def grid_search(
    network: Callable, batches: Batches, parameters: spatial.Parameters, context: Context
) -> Iterator[Crafted]:
    """Yield images drawn by Foolbox's transformation at the first movement of the grid that fools.

    Foolbox's own search is not used: its grid translates before it rotates, and a shift of one pixel is one of
    (side - 1) / side there. Both are undone here. An image that no movement fools comes back as it is.

    Raises:
        RedoubtError: a parameter that Foolbox does not have, or images that are not square.
    """
    for start, inputs, labels in batches:
        if parameters.method != "grid" or not parameters.stop or inputs.shape[2] != inputs.shape[3]:
            raise RedoubtError("spatial: Foolbox's engine needs `method: grid`, `stop: true` and square images")
        yield spatial.crafted(start, *_first_that_fools(network, inputs, labels, parameters, context.bounds))


def _first_that_fools(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: spatial.Parameters,
    bounds: tuple[float, float] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return moved images (B, C, H, W), their movements (B, 3) and forward passes (B,)."""
    fill, side = 0.0 if bounds is None else bounds[0], inputs.shape[3]
    found, moved = inputs.new_zeros(len(inputs), 3), inputs.clone()
    queries = torch.zeros_like(labels)
    waiting = torch.arange(len(inputs), device=inputs.device)
    for angle, right, down in spatial.grid(parameters).tolist():
        turn = math.radians(angle)
        cosine, sine, scale = math.cos(turn), math.sin(turn), -side / (side - 1)
        shift = scale * (cosine * right - sine * down), scale * (sine * right + cosine * down)
        part = rotate_and_shift(eagerpy.astensor(inputs[waiting] - fill), shift, angle).raw + fill
        part = part if bounds is None else part.clamp(*bounds)
        with torch.no_grad():
            wrong = network(part).argmax(1) != labels[waiting]
        queries[waiting] += 1
        rows = waiting[wrong]
        moved[rows], found[rows] = part[wrong], found.new_tensor([angle, right, down])
        if not len(waiting := waiting[~wrong]):
            break
    return moved, found, queries


def carlini_wagner(
    network: Callable, batches: Batches, parameters: CarliniWagner, context: Context
) -> Iterator[Crafted]:
    """Yield Foolbox's l2 Carlini-Wagner examples; what it fails on, or need not change, comes back as it is.

    Its steps are taken in the space of tanh. Where there are no bounds, that of `model` is all but linear, and its
    steps are set to the given share of the range of all `inputs`.
    """
    for start, inputs, labels in batches:
        yield Crafted(start, _carlini_wagner(network, inputs, labels, parameters, context.bounds))


def _carlini_wagner(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: CarliniWagner,
    bounds: tuple[float, float] | None,
) -> torch.Tensor:
    victim, rate = model(network, inputs, bounds), parameters.learning_rate
    if bounds is None:
        rate *= float(inputs.max() - inputs.min()) / victim.bounds.upper or 1.0 / victim.bounds.upper
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=parameters.searches,
        steps=parameters.steps,
        stepsize=rate,
        confidence=parameters.confidence,
        initial_const=1e-3 if parameters.initial_c is None else parameters.initial_c,
        abort_early=parameters.abort_early,
    )
    with _weights_at_rest(network):
        found = attack.run(victim, inputs, foolbox.criteria.Misclassification(labels))
    with torch.no_grad():
        changed = (network(inputs).argmax(1) == labels) & (network(found).argmax(1) != labels)
    return torch.where(like(changed, inputs), found, inputs)


def decoupled(network: Callable, batches: Batches, parameters: DDN, context: Context) -> Iterator[Crafted]:
    """Yield Foolbox's DDN examples.

    Raises:
        RedoubtError: a parameter that Foolbox does not have.
    """
    theirs = (parameters.loss, parameters.step_size, parameters.shorten, parameters.queries)
    if theirs != ("cross-entropy", 1.0, False, None):
        raise RedoubtError(
            "ddn: Foolbox's engine needs `loss: cross-entropy`, `step_size: 1`, `shorten: false` and `queries: null`"
        )
    attack = foolbox.attacks.DDNAttack(init_epsilon=parameters.radius, steps=parameters.steps, gamma=parameters.gamma)
    yield from _nearest(network, batches, attack, context)


def fast_minimum(network: Callable, batches: Batches, parameters: FMN, context: Context) -> Iterator[Crafted]:
    """Yield Foolbox's l-infinity FMN examples.

    Its l2 attack is left out: its projection divides a norm by itself and leaves every point where it is.

    Raises:
        RedoubtError: a parameter that Foolbox does not have.
    """
    if parameters.norm != "linf" or parameters.shorten or parameters.queries is not None:
        raise RedoubtError("fmn: Foolbox's engine needs `norm: linf`, `shorten: false` and `queries: null`")
    length = parameters.step_size
    attack = foolbox.attacks.LInfFMNAttack(steps=parameters.steps, max_stepsize=length, gamma=parameters.gamma)
    yield from _nearest(network, batches, attack, context)


def _nearest(
    network: Callable, batches: Batches, attack: foolbox.attacks.base.MinimizationAttack, context: Context
) -> Iterator[Crafted]:
    """Yield what a minimum-norm attack finds; an image that it need not or cannot change comes back as it is.

    In place of a gradient that is zero Foolbox draws one from torch's global generator: it is seeded for each batch.
    """
    for start, inputs, labels in batches:
        (own,) = context.generators([start], "foolbox")
        with _weights_at_rest(network), torch.random.fork_rng():
            torch.manual_seed(own.initial_seed())
            victim = model(network, inputs, context.bounds)
            found = attack.run(victim, inputs, foolbox.criteria.Misclassification(labels))
        with torch.no_grad():
            wrong = network(found).argmax(1) != labels
        yield Crafted(start, torch.where(like(wrong, inputs), found, inputs))


ATTACKS: dict[str, Callable] = {
    "carlini-wagner": carlini_wagner,
    "ddn": decoupled,
    "deepfool": deepfool,
    "fgs": fast_gradient_sign,
    "fmn": fast_minimum,
    "gradient-scan": scan,
    "pgd": pgd,
    "spatial": grid_search,
}
