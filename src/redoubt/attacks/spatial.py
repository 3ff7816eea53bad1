"""Rotations and translations: the worst of a grid, of random draws, or of what gradient ascent passes through.

Source: Engstrom, Tran, Tsipras, Schmidt and Madry (ICML 2019); Perceptual Prior's table 5 uses the grid.
Deviation: one bilinear interpolation for rotation and translation together, where the released code has one for each;
every method tries the image as it is first; the grid goes on from its largest movements to its smallest, since most
images that can be fooled are then fooled at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface
from redoubt.lazily import torch
from redoubt.records import Strict

NEEDS = "logits"  # and gradients for first-order
THREAT = "rotation and translation, bounded"
COST = "forward passes: rotations * translations^2, 1 + draws, or starts * (steps + 1) with as many backward passes"
ENGINES = ("redoubt", "foolbox")

CHUNK = 64
"""Movements that an image tries between two looks at who is fooled, at most."""

Count = Annotated[int, Field(gt=0)]


class Parameters(Strict):
    """The limits of a movement, and how the worst within them is looked for."""

    method: Literal["grid", "random", "first-order"] = Field("grid", description="how movements are chosen")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(30.0, description="largest angle either way, in degrees")
    translation: Annotated[float, Field(ge=0)] = Field(3.0, description="largest shift along an axis, in pixels")
    rotations: Count = Field(31, description="angles of the grid, evenly spaced")
    translations: Count = Field(5, description="shifts of the grid along each axis, evenly spaced")
    draws: Count = Field(10, description="random movements of an image, uniform within the limits")
    starts: Count = Field(5, description="starts of first-order: the image as it is, the others uniform")
    steps: Annotated[int, Field(ge=0)] = Field(10, description="steps of first-order from each start")
    step: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="length of a step, as a share of each limit")
    loss: losses.Name = Field("cross-entropy", description="what is ascended, and what ranks movements")
    stop: bool = Field(
        True, description="an image keeps the first movement that fools; false: the worst, wrong ones before high loss"
    )


def transform(images: torch.Tensor, moves: torch.Tensor, bounds: tuple[float, float] | None = None) -> torch.Tensor:
    """Return images rotated about their centre and then translated, by bilinear interpolation.

    Args:
        images: (N, C, H, W).
        moves: (N, 3): rotation in degrees, counter-clockwise to who looks at the image; translation to the right and
            down, in pixels. The result is differentiable in them.
        bounds: the low one lies outside of the image, and the result is clipped to both; None: 0, and no clipping.

    Returns:
        Images (N, C, H, W); a movement that takes pixels to pixels copies them bit by bit around a fill of 0.
    """
    fill = 0.0 if bounds is None else bounds[0]
    height, width = images.shape[-2:]
    # On a canvas with sides of powers of two, the sampler's way from pixels to [-1, 1] and back is exact in float32.
    tall, wide = (1 << (side - 1).bit_length() for side in (height, width))
    canvas = torch.nn.functional.pad(images - fill, (0, wide - width, 0, tall - height))
    angle, right, down = moves.double().unbind(1)
    cosine, sine = torch.deg2rad(angle).cos(), torch.deg2rad(angle).sin()
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    # Where a pixel of the result is read, linear in its place off the centre; 0 to 2 across the canvas.
    x = torch.stack([cosine, -sine, middle_x + 0.5 - cosine * right + sine * down], 1) * (2 / wide)
    y = torch.stack([sine, cosine, middle_y + 0.5 - sine * right - cosine * down], 1) * (2 / tall)
    rows = torch.arange(height, device=images.device, dtype=torch.float64) - middle_y
    columns = torch.arange(width, device=images.device, dtype=torch.float64) - middle_x
    places = torch.stack([columns.repeat(height), rows.repeat_interleave(width), rows.new_ones(height * width)])
    grid = torch.stack([x, y], 1).flatten(0, 1) @ places - 1.0  # (2N, HW)
    grid = grid.to(images.dtype).view(-1, 2, height, width).permute(0, 2, 3, 1)
    moved = torch.nn.functional.grid_sample(canvas, grid, padding_mode="zeros", align_corners=False) + fill
    return moved if bounds is None else moved.clamp(*bounds)


def grid(parameters: Parameters) -> torch.Tensor:
    """Return the movements of the grid (K, 3), see `transform`: none first, then from the largest to the smallest."""
    angles = _even(parameters.rotation, parameters.rotations)
    shifts = _even(parameters.translation, parameters.translations)
    moves = torch.cartesian_prod(angles, shifts, shifts)
    size = (moves / moves.abs().amax(0).clamp(min=1e-30)).norm(dim=1)
    moves = moves[size.argsort(descending=True, stable=True)]
    return torch.cat([moves.new_zeros(1, 3), moves[moves.any(1)]])


def _even(limit: float, count: int) -> torch.Tensor:
    """Return `count` evenly spaced numbers from -limit to limit; 0 alone where that is one number."""
    last = count - 1 if limit else 0
    return torch.tensor([limit * (2 * place - last) / max(last, 1) for place in range(last + 1)])


class Worst:
    """The worst movement that each image of a batch has tried."""

    def __init__(self, inputs: torch.Tensor, stop: bool) -> None:
        count = len(inputs)
        self.stop = stop
        self.moves = inputs.new_zeros(count, 3)
        self.loss = inputs.new_full((count,), float("-inf"))
        self.wrong = torch.zeros(count, dtype=torch.bool, device=inputs.device)
        self.queries = torch.zeros(count, dtype=torch.int64, device=inputs.device)

    def waiting(self) -> torch.Tensor:
        """Return the places of the images that have not stopped."""
        return (~self.wrong | (not self.stop)).nonzero()[:, 0]

    def update(self, places: torch.Tensor, moves: torch.Tensor, loss: torch.Tensor, wrong: torch.Tensor) -> None:
        """Note K movements (A, K, 3) of the images at `places` (A,), their loss and whether they fool (A, K)."""
        before, fools = self.wrong[places], wrong.any(1)
        best = loss.masked_fill(fools[:, None] & ~wrong, float("-inf")).argmax(1)
        if self.stop:
            best = torch.where(fools, wrong.byte().argmax(1), best)  # of equals, argmax takes the first
        picked = torch.arange(len(places), device=places.device), best
        better = (fools & ~before) | ((fools == before) & (loss[picked] > self.loss[places]))
        waits = ~before | (not self.stop)
        better &= waits
        self.queries[places] += waits * loss.shape[1]
        self.moves[places] = torch.where(better[:, None], moves[picked], self.moves[places])
        self.loss[places] = torch.where(better, loss[picked], self.loss[places])
        self.wrong[places] = before | fools


def measure(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    moves: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None,
    slope: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return loss and misclassification of moved images, (A, K) each, and the gradient of the loss in the moves.

    Args:
        network: inputs (N, C, H, W) to logits (N, classes).
        inputs: (A, C, H, W).
        labels: (A,) true classes.
        moves: (A, K, 3), see `transform`.
        parameters: they name the loss.
        bounds: see `transform`.
        slope: compute the gradient (A, K, 3); None is returned otherwise.
    """
    places = torch.arange(len(inputs), device=inputs.device).repeat_interleave(moves.shape[1])
    size = 256 if inputs.device.type == "cpu" else 2048
    parts = []
    for own, part in zip(places.split(size), moves.flatten(0, 1).split(size), strict=True):
        part = part.detach().requires_grad_(slope)
        with torch.set_grad_enabled(slope):
            look = losses.Goal(parameters.loss).look(network, transform(inputs[own], part, bounds), labels[own])
            gradient = torch.autograd.grad(look.height.sum(), part)[0] if slope else part
        parts.append((look.height.detach(), look.reached, gradient))
    loss, wrong, gradient = (torch.cat(column) for column in zip(*parts, strict=True))
    shape = moves.shape[:2]
    return loss.view(shape), wrong.view(shape), gradient.view_as(moves) if slope else None


def search(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    moves: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None = None,
) -> Worst:
    """Try movements (B, K, 3) on images (B, C, H, W) in their order; fooled images leave if `parameters.stop`.

    Cost: at most K forward passes for an image. Twice as many are tried at every look, since most images leave soon.
    """
    worst, first = Worst(inputs, parameters.stop), 0
    while first < moves.shape[1] and len(places := worst.waiting()):
        part = moves[places, first : first + min(max(first, 1), CHUNK)]
        loss, wrong, _ = measure(network, inputs[places], labels[places], part, parameters, bounds)
        worst.update(places, part, loss, wrong)
        first += part.shape[1]
    return worst


def climb(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    starts: torch.Tensor,
    parameters: Parameters,
    bounds: tuple[float, float] | None = None,
) -> Worst:
    """Ascend the loss from starts (B, S, 3) by signs of the gradient; every movement passed through is tried.

    Cost: at most S (steps + 1) forward and backward passes for an image.
    """
    limits = starts.new_tensor([parameters.rotation, parameters.translation, parameters.translation])
    worst, moves = Worst(inputs, parameters.stop), starts
    places = torch.arange(len(inputs), device=inputs.device)
    for step in range(parameters.steps + 1):
        now = inputs[places], labels[places], moves
        loss, wrong, slope = measure(network, *now, parameters, bounds, slope=step < parameters.steps)
        worst.update(places, moves, loss, wrong)
        if slope is None:
            break
        moves = (moves + parameters.step * limits * slope.sign()).clamp(-limits, limits)
        if parameters.stop and interface.thin_now(step, inputs.device):
            left = ~worst.wrong[places]
            places, moves = places[left], moves[left]
            if not len(places):
                break
    return worst


def drawn(parameters: Parameters, count: int, rows: range, context: interface.Context) -> torch.Tensor:
    """Return no movement and `count` uniform ones within the limits, (images, 1 + count, 3), for images at `rows`."""
    limits = torch.tensor([parameters.rotation, parameters.translation, parameters.translation])
    moves = limits * (2.0 * context.rand(rows, (count, 3), "spatial", parameters.method) - 1.0)
    return torch.cat([moves.new_zeros(len(rows), 1, 3), moves], 1)


def find(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: Parameters,
    rows: range,
    context: interface.Context,
) -> Worst:
    """Return the worst movements of images (B, C, H, W) at `rows` by the method that the parameters name."""
    bounds = context.bounds
    if parameters.method == "grid":
        moves = grid(parameters).to(inputs.device).expand(len(inputs), -1, -1)
        return search(network, inputs, labels, moves, parameters, bounds)
    if parameters.method == "random":
        moves = drawn(parameters, parameters.draws, rows, context).to(inputs.device)
        return search(network, inputs, labels, moves, parameters, bounds)
    starts = drawn(parameters, parameters.starts - 1, rows, context).to(inputs.device)
    return climb(network, inputs, labels, starts, parameters, bounds)


def crafted(start: int, moved: torch.Tensor, moves: torch.Tensor, queries: torch.Tensor) -> interface.Crafted:
    """Return moved images (B, C, H, W) with their movements (B, 3) and forward passes (B,) as facts; see `run`."""
    rotation, tx, ty = moves.cpu().numpy().T
    return interface.Crafted(start, moved, {"rotation": rotation, "tx": tx, "ty": ty, "queries": queries.cpu().numpy()})


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield moved images; one that stays right is moved to where its loss is highest.

    Facts: rotation in degrees, tx (to the right) and ty (down) in pixels; queries: forward passes of the image.
    """
    for start, inputs, labels in batches:
        worst = find(network, inputs, labels, parameters, range(start, start + len(inputs)), context)
        yield crafted(start, transform(inputs, worst.moves, context.bounds), worst.moves, worst.queries)
