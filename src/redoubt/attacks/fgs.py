"""Fast gradient sign: one step of size epsilon along the sign of the loss gradient at the true label.

Source: DeepDefense, equation (9), after Goodfellow et al. (ICLR 2015). The cross-entropy is that of float32, as
frameworks compute it: on a confident model the signs of its gradient are partly wrong, so the attack is weaker than the
formula (`redoubt.probes.gradient_signs` measures how many); `loss: log-odds` follows the signs of the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import Field, model_validator

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface
from redoubt.attacks._searched import Columns, Seen, part, search_of
from redoubt.errors import RedoubtError
from redoubt.lazily import np, torch
from redoubt.records import Positive, Strict

NEEDS = "gradients"
THREAT = "l-infinity ball of radius epsilon"
COST = (
    "one forward and one backward pass, a forward pass per epsilon, some 20 for the search by `error`, "
    "7 near each searched epsilon"
)
ENGINES = ("redoubt", "foolbox")
SWEEP = {"epsilon": "epsilons", "fraction": "fractions"}

Move = Callable[..., "torch.Tensor"]


class Parameters(Strict):
    """Which epsilons, by exactly one of three keys, in units of the attacked space; and which loss."""

    epsilons: list[Annotated[float, Field(ge=0)]] | None = Field(None, description="a sweep of epsilons")
    error: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="the smallest epsilon at which this share of all images is misclassified, by bisection"
    )
    fractions: list[Positive] | None = Field(
        None, description="multiples of the epsilon that the attack named by `reads` found"
    )

    loss: losses.Name = Field(
        "cross-entropy",
        description="whose gradient is followed; log-odds keeps signs that float32 gets wrong for a confident model",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Parameters:
        if sum(value is not None for value in (self.epsilons, self.error, self.fractions)) != 1:
            raise ValueError("give exactly one of epsilons, error, fractions")
        return self


def joint(parameters: Parameters) -> bool:
    """Tell whether epsilon is searched, or looked at nearby, on all images together."""
    return parameters.epsilons is None


def direction(
    network: Callable, inputs: torch.Tensor, labels: torch.Tensor, loss: losses.Name = "cross-entropy"
) -> torch.Tensor:
    """Return the sign of the gradient of the loss at `labels` as int8, shaped as `inputs`.

    Cost: one forward and one backward pass.
    """
    return losses.Goal(loss).gradient(network, inputs, labels)[2].sign().to(torch.int8)


def perturb(
    inputs: torch.Tensor, signs: torch.Tensor, epsilon: float, bounds: tuple[float, float] | None = None
) -> torch.Tensor:
    """Return `inputs` moved by `epsilon` along `signs`, clipped to `bounds` where the space has them."""
    moved = inputs + epsilon * signs
    return moved if bounds is None else moved.clamp(*bounds)


def smallest_epsilon(wrong: Callable[[float], int], count: int, share: float, limit: float) -> float:
    """Return the smallest epsilon at which at least `share` of `count` images are wrong, by bisection.

    Args:
        wrong: number of misclassified images at an epsilon; taken to be non-decreasing where it is searched.
        count: number of images.
        share: in (0, 1).
        limit: epsilon at which the search gives up.

    Returns:
        An epsilon at which `share` is reached, within a relative 1e-4 of one at which it is not; 0 where clean images
        reach it already.

    Raises:
        RedoubtError: `share` is not reached at `limit`.
    """
    needed = share * count
    if wrong(0.0) >= needed:
        return 0.0
    low, high = 0.0, limit / 1024.0
    while wrong(high) < needed:
        if high >= limit:
            raise RedoubtError(f"fgs: fewer than {share:.0%} of the images are misclassified even at epsilon {limit:g}")
        low, high = high, 2.0 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if wrong(middle) >= needed else (middle, high)
    return high


def epsilons_of(seen: Seen, parameters: Parameters, context: interface.Context) -> list[tuple[float, Columns]]:
    """Return the epsilons to apply, each with the columns that say where it comes from; see `sweep`."""
    if parameters.epsilons is not None:
        return [(epsilon, {}) for epsilon in parameters.epsilons]
    if parameters.fractions is not None:
        return _fractions(seen, parameters.fractions, context)
    share = parameters.error
    assert share is not None, "one of the three keys is set"
    reach = max(float(inputs.abs().max()) for _, inputs, _ in seen.batches)
    epsilon = smallest_epsilon(seen.wrong, len(seen.batches), share, 4.0 * reach)
    return [(epsilon, {**seen.near(epsilon), **seen.search(share)} if epsilon else {})]


def _fractions(seen: Seen, fractions: list[float], context: interface.Context) -> list[tuple[float, Columns]]:
    if context.reads is None:
        raise RedoubtError("fgs: `fractions` needs an evaluation with `reads: {model: ..., attack: ...}`")
    if len(found := context.reads["epsilon"].unique()) != 1:
        raise RedoubtError(f"fgs: `fractions` needs rows of one epsilon; those of `reads` have {len(found)}")
    reference, positions = float(found[0]), context.positions
    places = np.arange(len(seen.batches)) if positions is None else positions.cpu().numpy()
    search = search_of(context.reads, places)
    return [
        (fraction * reference, {"fraction": fraction, **(seen.near(fraction * reference) | search if search else {})})
        for fraction in fractions
    ]


def sweep(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context, move: Move
) -> Iterator[interface.Crafted]:
    """Yield the examples of every engine, all images of one epsilon before the next.

    Where epsilon is searched, here or by the attack that `reads` names, the rows keep the search and what is near it,
    see `redoubt.attacks._searched`: columns `searched`, `searched_wrong`, `search_share`, `near` and `near_label`.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        batches: of inputs and labels.
        parameters: they say which epsilons.
        context: what the attack is given.
        move: first place of a batch, its inputs, its labels and an epsilon to the examples (B, ...).
    """
    for epsilon, origin in epsilons_of(Seen(network, batches, move), parameters, context):
        for start, inputs, labels in batches:
            own = part(origin, slice(start, start + len(inputs)))
            yield interface.Crafted(start, move(start, inputs, labels, epsilon), {"epsilon": epsilon, **own})


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield fast-gradient-sign examples, see `sweep`; each image's gradient is computed once."""
    signs = {start: direction(network, inputs, labels, parameters.loss) for start, inputs, labels in batches}

    def move(start: int, inputs: torch.Tensor, _: torch.Tensor, epsilon: float) -> torch.Tensor:
        return perturb(inputs, signs[start], epsilon, context.bounds)

    yield from sweep(network, batches, parameters, context, move)
