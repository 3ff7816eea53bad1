"""Few-pixel: the best change of at most k pixels, by differential evolution over queries of the logits.

Source: Su, Vargas and Sakurai (IEEE TEVC 2019), section III, whose strategy is `rand1` from a `normal` start;
population and generations as in Learn2Perturb, supplement, table 1. These are the defaults of the public ports of the
attack (Hyperparticle/one-pixel-attack-keras, DebangLi/one-pixel-attack-pytorch) too, whose strategy is that of SciPy's
`differential_evolution`: `best1-dither` from a `latin-hypercube`. Their populations for 1, 2 and 3 pixels of a colour
image are 400, 400 and 390.
Deviation: any misclassification ends an image's search, where the paper waits for a low probability of the true class
and the ports for an error of the best candidate. Of rand1, positions that leave the image are mirrored back and values
are clipped to the bounds, which the paper leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from redoubt.attacks import _losses as losses
from redoubt.attacks import _querying as querying
from redoubt.attacks import interface
from redoubt.attacks._expectation import Expectation
from redoubt.errors import RedoubtError
from redoubt.lazily import torch
from redoubt.records import Strict

NEEDS = "logits"
THREAT = "l0, at most `pixels` positions, any value within the bounds"
COST = "1 + population x (generations + 1) forward passes at most"
ENGINES = ("redoubt",)
SWEEP = {"pixels": "pixels"}
DITHER = (0.5, 1.0)  # range of the factor of a generation, as in the ports


class Parameters(Strict):
    """Parameters of the few-pixel attack; a pixel is one position with all of its channels."""

    pixels: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)] = Field(
        [1], description="how many pixels may change, a sweep in rising order"
    )
    population: Annotated[int, Field(ge=3)] = Field(400, description="candidates of an image")
    generations: Annotated[int, Field(ge=0)] = Field(75, description="rounds of children at most, after the first draw")
    strategy: Literal["rand1", "best1-dither"] = Field(
        "rand1",
        description="to which candidate a difference of two is added: any, times `weight`; or the best, times a factor "
        "that each generation draws from 0.5 to 1, where elements that leave their range are drawn again",
    )
    start: Literal["normal", "latin-hypercube"] = Field(
        "normal",
        description="first candidates: uniform positions with normal values around mid-grey, or every element uniform "
        "in its range, of which each of as many parts as there are candidates has one",
    )
    weight: Annotated[float, Field(gt=0, le=2)] = Field(
        0.5, description="factor of the difference of two candidates, of rand1; F in the paper"
    )
    loss: losses.Name = Field(
        "log-odds",
        description="what candidates are ranked by; log-odds and cross-entropy rank as the paper's probability of the "
        "true class does, and log-odds does not underflow",
    )

    @model_validator(mode="after")
    def _rising(self) -> Parameters:
        if self.pixels != sorted(set(self.pixels)):
            raise ValueError("give each number of pixels once, in rising order")
        return self


def first(
    draws: list[torch.Generator], population: int, pixels: int, shape: tuple[int, ...], bounds: tuple[float, float]
) -> torch.Tensor:
    """Draw the first candidates of images: positions uniform, values normal around the middle of the bounds.

    The standard deviation is half of the range, N(128, 127) in the paper, so that almost a third of the values are
    clipped to black or white; grey and colour images are treated alike.

    Args:
        draws: one generator an image.
        population: candidates of an image, P.
        pixels: pixels of a candidate, K.
        shape: (channels, height, width).
        bounds: range of a value.

    Returns:
        (A, P, K, 2 + channels), CPU: row in [0, height], column in [0, width], and the values.
    """
    channels, height, width = shape
    low, high = bounds
    size = torch.tensor([height, width], dtype=torch.float32)
    found = torch.empty(len(draws), population, pixels, 2 + channels)
    for own, draw in zip(found, draws, strict=True):
        own[..., :2] = torch.rand(population, pixels, 2, generator=draw) * size
        own[..., 2:] = torch.randn(population, pixels, channels, generator=draw)
    found[..., 2:].mul_((high - low) / 2).add_((low + high) / 2).clamp_(low, high)
    return found


def ranges(shape: tuple[int, ...], bounds: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return least and greatest row, column and values of a pixel, each (2 + channels,)."""
    channels, height, width = shape
    low, high = bounds
    return torch.tensor([0.0, 0.0, *[low] * channels]), torch.tensor([height, width, *[high] * channels])


def latin_hypercube(
    draws: list[torch.Generator], population: int, pixels: int, shape: tuple[int, ...], bounds: tuple[float, float]
) -> torch.Tensor:
    """Draw first candidates as `first` does, one of them in each of P equal parts of the range of every element."""
    low, high = ranges(shape, bounds)
    size = (population, pixels, len(low))
    parts = torch.stack([torch.rand(size, generator=draw).argsort(0) for draw in draws])
    inside = torch.stack([torch.rand(size, generator=draw) for draw in draws])
    return low + (high - low) * (parts + inside) / population


def triples(draws: list[torch.Generator], population: int) -> torch.Tensor:
    """Draw three different candidates for each child, (A, 3, P) int64, CPU; a parent may be one of them."""
    uniform = torch.stack([torch.rand(3, population, generator=draw) for draw in draws])
    one = (uniform[:, 0] * population).long().clamp(max=population - 1)
    return torch.cat([one[:, None], _others(uniform[:, 1:], one)], 1)


def _others(uniform: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
    """Return two different places (A, 2, P) of P that are not those `taken` (A, P) or (P,), by `uniform` (A, 2, P)."""
    population = uniform.shape[2]
    scale = torch.tensor([population - 1, population - 2])[:, None]
    two, three = (uniform * scale).long().minimum(scale - 1).unbind(1)
    three += three >= two  # both are counted onwards from the one taken, which is at distance 0
    return torch.stack([(taken + 1 + two) % population, (taken + 1 + three) % population], 1)


def breed(
    points: torch.Tensor, chosen: torch.Tensor, weight: float, shape: tuple[int, ...], bounds: tuple[float, float]
) -> torch.Tensor:
    """Return the children, x1 + weight (x2 - x3): positions mirrored into the image, values clipped to the bounds.

    Args:
        points: (A, P, K, 2 + channels) candidates.
        chosen: (A, 3, P) which three make the child of each parent.
        weight: F.
        shape: (channels, height, width).
        bounds: range of a value.

    Returns:
        (A, P, K, 2 + channels).
    """
    rows = torch.arange(len(points), device=points.device)[:, None]
    one, two, three = (points[rows, some] for some in chosen.unbind(1))
    children = one.add_(two.sub_(three), alpha=weight)
    for axis, size in enumerate(shape[1:]):
        position = children[..., axis].remainder(2 * size)
        children[..., axis] = torch.minimum(position, 2 * size - position)
    children[..., 2:].clamp_(*bounds)
    return children


def breed_from_best(
    points: torch.Tensor,
    values: torch.Tensor,
    draws: list[torch.Generator],
    shape: tuple[int, ...],
    bounds: tuple[float, float],
) -> torch.Tensor:
    """Return the children, best + F (x1 - x2), where x1 and x2 differ and are not the parent.

    Elements that are out of their range are drawn again.

    Args:
        points: (A, P, K, 2 + channels) candidates.
        values: (A, P) how good they are.
        draws: one generator an image; they draw pairs, F, and elements that are out of range.
        shape: (channels, height, width).
        bounds: range of a value.

    Returns:
        (A, P, K, 2 + channels).
    """
    rows, (low, high) = torch.arange(len(points), device=points.device), ranges(shape, bounds)
    uniform = torch.stack([torch.rand(2, points.shape[1], generator=draw) for draw in draws])
    factor = torch.stack([torch.rand(1, generator=draw) for draw in draws]).view(-1, 1, 1, 1)
    again = low + (high - low) * torch.stack([torch.rand(points.shape[1:], generator=draw) for draw in draws])
    one, two = _others(uniform, torch.arange(points.shape[1])).to(points.device).unbind(1)
    factor = (DITHER[0] + (DITHER[1] - DITHER[0]) * factor).to(points)
    low, high, best = low.to(points), high.to(points), points[rows, values.argmax(1)][:, None]
    children = best + factor * (points[rows[:, None], one] - points[rows[:, None], two])
    return torch.where((children < low) | (children > high), again.to(points), children)


def write(images: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Set pixels of images (N, C, H, W), in place, to what candidates (N, K, 2 + C) say; return the images."""
    channels, height, width = images.shape[1:]
    flat = images.view(len(images), channels, height * width)
    # A position of exactly `height` or `width` is the far edge of the last pixel.
    row, column = points[..., 0].long().clamp(max=height - 1), points[..., 1].long().clamp(max=width - 1)
    index = (row * width + column)[:, :, None, None].expand(-1, -1, channels, 1)
    for pixel in range(points.shape[1]):  # one by one, so that the last of two at one position always wins
        flat.scatter_(2, index[:, pixel], points[:, pixel, 2:, None])
    return images


def candidates(
    network: Callable, images: torch.Tensor, labels: torch.Tensor, points: torch.Tensor, loss: losses.Name
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of candidates (A, P, K, 2 + C) of images (A, C, H, W), and whether they are misclassified."""
    flat = points.flatten(0, 1)

    def change(copies: torch.Tensor, low: int, high: int) -> None:
        write(copies, flat[low:high])

    return querying.query(network, images, labels, points.shape[1], change, loss)


def search(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    pixels: int,
    parameters: Parameters,
    bounds: tuple[float, float],
    draws: list[torch.Generator],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Search the pixels of each image; an image leaves after the first generation with a misclassified candidate.

    Args:
        network: images (B, C, H, W) to logits (B, classes).
        inputs: (N, C, H, W) images that are classified right, N > 0.
        labels: (N,) true classes.
        pixels: how many pixels may change, K.
        parameters: see `Parameters`.
        bounds: range of a value.
        draws: one generator an image.

    Returns:
        The candidate found (N, K, 2 + C): of the misclassified ones that with the highest loss, else the best of the
        last population; generations of children that it took (N,) int64.

    Randomness: `draws`; more generations pass through the states of fewer ones.
    Cost: `population` forward passes an image for the first draw and for each generation.
    """
    shape = tuple(inputs.shape[1:])
    begin = first if parameters.start == "normal" else latin_hypercube
    children = begin(draws, parameters.population, pixels, shape, bounds).to(inputs)
    points, values = children, inputs.new_full(children.shape[:2], float("-inf"))
    found, spent = children[:, 0].clone(), torch.zeros_like(labels)
    over, rows = torch.zeros_like(labels, dtype=torch.bool), torch.arange(len(labels), device=labels.device)
    for generation in range(parameters.generations + 1):
        if generation and parameters.strategy == "rand1":
            chosen = triples(draws, parameters.population).to(inputs.device)
            children = breed(points, chosen, parameters.weight, shape, bounds)
        elif generation:
            children = breed_from_best(points, values, draws, shape, bounds)
        fresh, wrong = candidates(network, inputs, labels, children, parameters.loss)
        better = fresh > values
        points = torch.where(better[:, :, None, None], children, points)
        values = torch.where(better, fresh, values)
        each, fooled, done = torch.arange(len(rows), device=rows.device), wrong.any(1), over[rows]
        # A misclassified child need not beat its parent, so it is taken from the children.
        success = children[each, fresh.masked_fill(~wrong, float("-inf")).argmax(1)]
        if (lucky := fooled.nonzero()[:, 0]).numel() and isinstance(network, Expectation):
            tries = write(inputs[lucky], success[lucky])
            fooled[lucky] = losses.Goal(parameters.loss).look(network, tries, labels[lucky]).reached
        now = torch.where(fooled[:, None, None], success, points[each, values.argmax(1)])
        found[rows] = torch.where(done[:, None, None], found[rows], now)
        spent[rows] = torch.where(done, spent[rows], generation)
        over[rows] = done | fooled
        if interface.thin_now(generation, inputs.device):
            left = (~over[rows]).nonzero()[:, 0]
            if not len(left):
                break
            if len(left) < len(rows):
                rows, inputs, labels, points, values = (part[left] for part in (rows, inputs, labels, points, values))
                draws = [draws[place] for place in left.tolist()]
    return found, spent


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield few-pixel examples, all images of one pixel count before the next.

    An image on which the attack fails comes back with the best pixels found; one that is misclassified as it is comes
    back unchanged. The fact `queries` counts the clean image too.

    Raises:
        RedoubtError: the space has no bounds.
    """
    if context.bounds is None:
        raise RedoubtError("few-pixel: needs a space with bounds, from which pixel values are drawn")
    for pixels in parameters.pixels:
        for start, inputs, labels in batches:
            moved = inputs.clone(memory_format=torch.contiguous_format)
            iterations, queries = torch.zeros_like(labels), torch.ones_like(labels)
            with torch.no_grad():
                rows = (~losses.Goal(parameters.loss).look(network, inputs, labels).reached).nonzero()[:, 0]
                if len(rows):
                    draws = context.generators([start + row for row in rows.tolist()], "few-pixel", pixels)
                    own = moved[rows], labels[rows], pixels, parameters, context.bounds, draws
                    points, iterations[rows] = search(network, *own)
                    moved[rows] = write(moved[rows], points)
                    queries[rows] += parameters.population * (1 + iterations[rows])
            facts = {"pixels": pixels, "iterations": iterations.cpu().numpy(), "queries": queries.cpu().numpy()}
            yield interface.Crafted(start, moved, facts)
