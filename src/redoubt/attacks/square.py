"""Square: random squares are changed, and kept where the margin falls; needs logits alone, no gradients.

Source: Andriushchenko, Croce, Flammarion and Hein (ECCV 2020), algorithms 1 (search), 2 (l-infinity) and 3 (l2),
equation 2 (shape of an l2 square) and section 4 (starts). The share of pixels is halved after 10, 50, 200, 1000,
2000, 4000, 6000 and 8000 of 10 000 iterations, in proportion where there are others. Untargeted. For a random model
the margin is that of the logits' mean over the `draws` of the entry, and its judges confirm what they get wrong.
Deviation: an l-infinity square is set to the two ends of the ball, which is what a change by twice epsilon and the
projection lead to; an l2 square has a side of three pixels at least, which the text does not say and the authors' code
has: smaller ones hold hardly any of the budget; the l2 start tiles images of any size by 5 x 5 squares that are as even
as its sides allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface, pgd
from redoubt.attacks._counting import Counted
from redoubt.attacks._expectation import Expectation
from redoubt.attacks._geometry import clip, like
from redoubt.attacks._hinge import Rows
from redoubt.attacks._sweeping import Found, Swept, sweep
from redoubt.lazily import torch
from redoubt.records import Count

NEEDS = "logits"
THREAT = "l-infinity or l2 ball of radius epsilon"
COST = "2 + iterations forward passes for each restart, fewer for images that are fooled early"
ENGINES = ("redoubt",)
SWEEP = {"epsilon": "epsilons"}

SMALLEST = {"linf": 1, "l2": 3}  # side of a square
HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)  # of 10 000 iterations
BLOCK = 50  # iterations whose numbers are drawn together
TILES = 5
TINY = 1e-12


class Parameters(Swept):
    """Parameters of Square; epsilon in units of the attacked space."""

    norm: Literal["linf", "l2"] = Field("linf", description="norm of the ball")
    iterations: Count = Field(5000, description="squares tried for an image at most, in each restart")
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="of the pixels that the first squares cover; 0.05 (linf) and 0.1 (l2) for the paper's ImageNet"
    )
    restarts: Count = Field(1, description="searches of an image")


def side(iteration: int, parameters: Parameters, height: int, width: int) -> int:
    """Return the side of the square that is tried at an iteration, from 0."""
    halvings = sum(iteration * 10_000 >= mark * parameters.iterations for mark in HALVINGS)
    pixels = parameters.share / 2**halvings * height * width
    return min(max(round(math.sqrt(pixels)), SMALLEST[parameters.norm]), height, width)


# -- l-infinity --------------------------------------------------------------------------------------------------------


def stripes(draws: torch.Tensor) -> torch.Tensor:
    """Return directions (A, C, 1, W) of plus and minus one from uniform draws of this shape."""
    return torch.where(draws < 0.5, -1.0, 1.0)


def painted(
    points: torch.Tensor, clean: torch.Tensor, radii: torch.Tensor, corners: torch.Tensor, signs: torch.Tensor, h: int
) -> torch.Tensor:
    """Return points (A, C, H, W) with a square at the corners (A, 2) set to the ends of the ball, by signs (A, C)."""
    down, right = (
        torch.arange(count, device=points.device) - corner[:, None]
        for count, corner in zip(points.shape[2:], corners.T, strict=True)
    )
    inside = ((down >= 0) & (down < h))[:, None, :, None] & ((right >= 0) & (right < h))[:, None, None, :]
    return torch.where(inside, clean + like(radii, clean) * signs[:, :, None, None], points)


# -- l2 ----------------------------------------------------------------------------------------------------------------


@cache
def bump(height: int, width: int) -> torch.Tensor:
    """Return equation 2 (height, width): rings that rise towards the middle, as sums of inverse squares."""
    n = height // 2
    rows, columns = (torch.arange(1, size + 1) for size in (height, width))
    rings = n - torch.maximum(
        (rows - height // 2 - 1).abs()[:, None].expand(height, width), (columns - width // 2 - 1).abs()[None, :]
    )
    terms = torch.tensor([1.0 / (n + 1 - k) ** 2 for k in range(n + 1)]).cumsum(0)
    return torch.where(rings >= 0, terms[rings.clamp(0, n)], 0.0)


@cache
def shape(h: int) -> torch.Tensor:
    """Return two bumps of opposite sign side by side (h, h), at unit l2 norm."""
    if h == 1:
        return torch.ones(1, 1)
    half = h // 2
    found = torch.cat([bump(h, half), -bump(h, h - half)], 1)
    return found / found.norm()


def tiled(height: int, width: int, signs: torch.Tensor) -> torch.Tensor:
    """Return perturbations (A, C, height, width) of a bump in each tile, by signs (A, C, 5, 5), at unit l2 norm."""
    found = signs.new_zeros(*signs.shape[:2], height, width)
    tops, lefts = ([round(size * part / TILES) for part in range(TILES + 1)] for size in (height, width))
    for row in range(TILES):
        for column in range(TILES):
            tall, wide = tops[row + 1] - tops[row], lefts[column + 1] - lefts[column]
            if tall and wide:
                part = bump(max(tall, wide), max(tall, wide))[:tall, :wide].to(signs)
                place = (..., slice(tops[row], tops[row + 1]), slice(lefts[column], lefts[column + 1]))
                found[place] = signs[:, :, row, column, None, None] * part
    return pgd.unit(found)


def shifted(
    points: torch.Tensor,
    clean: torch.Tensor,
    radii: torch.Tensor,
    corners: torch.Tensor,
    signs: torch.Tensor,
    turned: torch.Tensor,
    h: int,
) -> torch.Tensor:
    """Return points whose budget in one square has moved to another: algorithm 3.

    Args:
        points: (A, C, H, W).
        clean: (A, C, H, W) centres of the balls.
        radii: (A,).
        corners: (A, 4) of the square that gains and of that which loses.
        signs: (A, C) of the shape that is added.
        turned: (A,) bool: the shape's halves lie above each other.
        h: side of both squares.
    """
    moved = points - clean
    each, channels = torch.arange(len(points), device=points.device)[:, None, None, None], range(points.shape[1])
    channel = torch.tensor([*channels], device=points.device)[None, :, None, None]
    steps = torch.arange(h, device=points.device)
    gains, loses = (
        (
            each,
            channel,
            (corners[:, k, None] + steps)[:, None, :, None],
            (corners[:, k + 1, None] + steps)[:, None, None],
        )
        for k in (0, 2)
    )
    unused = (radii.square() - moved.flatten(1).square().sum(1)).clamp_min(0.0) / points.shape[1]
    old, before = moved[gains], moved.flatten(2).square().sum(2)
    rest = moved.index_put(gains, torch.zeros_like(old)).index_put(loses, torch.zeros_like(old))
    available = (before - rest.flatten(2).square().sum(2)).clamp_min(0.0) + unused[:, None]
    added = shape(h).to(points)
    added = torch.where(turned[:, None, None], added.T, added)[:, None] * signs[:, :, None, None]
    new = added + old / old.flatten(2).norm(dim=2).clamp_min(TINY)[:, :, None, None]
    lengths = new.flatten(2).norm(dim=2)[:, :, None, None]
    new = torch.where(lengths > TINY, new / lengths.clamp_min(TINY), added)  # a single pixel may cancel
    new = new * available.sqrt()[:, :, None, None]
    return clean + rest.index_put(gains, new)


# -- search ------------------------------------------------------------------------------------------------------------


@dataclass
class Search(Rows):
    """The images that are still searched; every tensor has a row for each."""

    rows: torch.Tensor  # places in the batch
    clean: torch.Tensor  # (A, C, H, W)
    labels: torch.Tensor
    radii: torch.Tensor
    points: torch.Tensor  # (A, C, H, W) best so far
    margins: torch.Tensor  # (A,) there


def begun(
    clean: torch.Tensor, radii: torch.Tensor, norm: str, bounds: tuple[float, float] | None, draws: torch.Tensor
) -> torch.Tensor:
    """Return starts (A, C, H, W) in the ball and the bounds, from draws (A, C, max(W, 25)): stripes or tiles."""
    height, width = clean.shape[2:]
    if norm == "linf":
        directions = stripes(draws[:, :, None, :width])
    else:
        directions = tiled(height, width, stripes(draws[:, :, : TILES**2]).unflatten(2, (TILES, TILES)))
    return pgd.project(clean + like(radii, clean) * directions, clean, radii, norm, bounds)


def proposed(
    search: Search, h: int, norm: str, bounds: tuple[float, float] | None, draws: torch.Tensor
) -> torch.Tensor:
    """Return the next points to try (A, C, H, W), from draws (A, 5 + C): corners of two squares, a turn, and signs."""
    height, width = search.clean.shape[2:]
    spans = draws.new_tensor([height, width, height, width]) - h + 1
    corners = (draws[:, :4] * spans).long().minimum(spans.long() - 1)
    signs = stripes(draws[:, 5:])
    if norm == "linf":
        moved = painted(search.points, search.clean, search.radii, corners[:, :2], signs, h)
        return clip(moved, bounds)
    moved = shifted(search.points, search.clean, search.radii, corners, signs, draws[:, 4] < 0.5, h)
    return pgd.project(moved, search.clean, search.radii, norm, bounds)


def ask(network: Counted, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the margins (A,), above zero just where an image is misclassified, ties too.

    Of a random model the margin of each draw is averaged, or that of what else its `mean` says; the mean logits say
    whether it is misclassified. Where it has further judges, they confirm that, and their mean margin counts: a draw
    may be lucky.
    """
    goal = losses.Goal("margin")
    with torch.no_grad():
        look = goal.look(network, points, labels, judged=False)
        wrong, margins = look.logits.argmax(1) != labels, look.height
        model, lucky = network.network, wrong.nonzero()[:, 0]
        if isinstance(model, Expectation) and model.further() is not None and len(lucky):
            again = goal.look(model, points[lucky], labels[lucky])
            wrong[lucky], margins[lucky] = again.reached, again.rank
    return torch.where(wrong, margins.clamp_min(TINY), margins.clamp_max(0.0))


def attack(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    places: list[int],
    parameters: Parameters,
    context: interface.Context,
) -> Found:
    """Attack one batch at one epsilon.

    Args:
        network: images (B, C, H, W) to logits (B, classes).
        inputs: (B, C, H, W) clean, B > 0.
        labels: (B,) true classes.
        epsilon: radius of the ball.
        places: of the images among all.
        parameters: see `Parameters`.
        context: bounds and draws.

    Returns:
        The points of the largest margin, in the ball and the bounds; an image that is wrong already stays as it is.
    """
    asked = Counted.begin(network, inputs, parameters.queries)
    margins = ask(asked, inputs, labels)
    best = Found(inputs.clone(), margins > 0.0, torch.zeros_like(labels), asked.spent)
    radii = inputs.new_full((len(inputs),), epsilon)
    for restart in range(parameters.restarts):
        rows = (~best.fooled & (asked.left() > 0)).nonzero()[:, 0]
        if not len(rows):
            break
        search = Search(rows, inputs[rows], labels[rows], radii[rows], inputs[rows], margins[rows])
        run_search(asked, search, best, margins, parameters, context, (places, ("square", epsilon, restart)))
    return best


def run_search(
    asked: Counted,
    search: Search,
    best: Found,
    margins: torch.Tensor,
    parameters: Parameters,
    context: interface.Context,
    drawn: tuple[list[int], tuple],
) -> None:
    """Search once from one start for each image; what is better goes to `best` and `margins`.

    Args:
        asked: the network for the batch.
        search: the images, at their clean points.
        best: what is known of the batch.
        margins: (B,) of the batch's best points.
        parameters: see `Parameters`.
        context: bounds and draws.
        drawn: places of the batch's images among all, and the tag of the draws.
    """
    (places, tag), (norm, bounds) = drawn, (parameters.norm, context.bounds)
    channels, height, width = search.clean.shape[1:]
    block = search.clean
    for iteration in range(-1, parameters.iterations):
        mine = [places[row] for row in search.rows.tolist()] if iteration < 0 or not iteration % BLOCK else []
        if iteration < 0:
            draws = context.rand(mine, (channels, max(width, TILES**2)), *tag, "start").to(search.clean)
            points = begun(search.clean, search.radii, norm, bounds, draws)
        else:
            if mine:
                block = context.rand(mine, (BLOCK, 5 + channels), *tag, iteration).to(search.clean)
            points = proposed(
                search, side(iteration, parameters, height, width), norm, bounds, block[:, iteration % BLOCK]
            )
            best.iterations[search.rows] += 1
        found = ask(asked.of(search.rows), points, search.labels)
        higher = (found > search.margins) | (iteration < 0)
        search.points = torch.where(like(higher, points), points, search.points)
        search.margins = torch.where(higher, found, search.margins)
        better = search.margins > margins[search.rows]
        best.points[search.rows] = torch.where(like(better, points), search.points, best.points[search.rows])
        margins[search.rows] = torch.maximum(search.margins, margins[search.rows])
        best.fooled[search.rows] = margins[search.rows] > 0.0
        active = ~best.fooled[search.rows] & (asked.of(search.rows).left() > 0)
        left = active.nonzero()[:, 0]
        if not len(left):
            break
        if len(left) < len(search.rows):
            search, block = search.keep(left), block[left]


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield Square's examples, all images of one epsilon before the next."""
    yield from sweep(batches, parameters.epsilons, partial(attack, network, parameters=parameters, context=context))
