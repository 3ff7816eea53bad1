"""Universal adversarial perturbation: one v that changes the predictions of most images it is added to.

Source: Moosavi-Dezfooli, Fawzi, Fawzi and Frossard (CVPR 2017), algorithm 1, in l2; PeerNets, section 4.3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from redoubt.attacks import deepfool, interface
from redoubt.attacks._geometry import unit
from redoubt.attacks._kept import Kept, kept_by
from redoubt.lazily import torch
from redoubt.records import Positive, Strict

NEEDS = "gradients"
THREAT = "one l2-bounded perturbation for all images"
COST = "passes x DeepFool of every crafting image that is not fooled yet, whatever the number of attacked images"
ENGINES = ("redoubt",)
SWEEP = {"rho": "rhos"}


class Parameters(Strict):
    """Radii of the ball, by exactly one of two keys; how v is crafted in it."""

    rhos: list[Positive] | None = Field(
        None, description="radii as shares of the mean l2 norm of the crafting images, ascending"
    )
    radii: list[Positive] | None = Field(None, description="radii in units of the attacked space, ascending")
    target: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="fooling rate on the crafting images at which crafting stops"
    )
    passes: Annotated[int, Field(gt=0)] = Field(10, description="passes over the crafting images at most")
    block: Annotated[int, Field(gt=0)] = Field(16, description="images between two updates of v; 1 in the paper")
    project: Literal["ball", "sphere"] = Field(
        "ball", description="onto what v is brought back; the released code always rescales it to the sphere"
    )
    clip: bool = Field(
        True,
        description="clip perturbed images to their space, in crafting and after; the released code does not",
    )
    iterations: Annotated[int, Field(gt=0)] = Field(10, description="linearisations of DeepFool at most")
    overshoot: Annotated[float, Field(ge=0)] = Field(0.02, description="share by which DeepFool's steps are stretched")
    candidates: Annotated[int, Field(gt=1)] = Field(10, description="classes that DeepFool considers")

    @model_validator(mode="after")
    def _one_ascending_sweep(self) -> Parameters:
        if (self.rhos is None) == (self.radii is None):
            raise ValueError("give exactly one of rhos, radii")
        sweep = self.rhos or self.radii
        if not sweep or sweep != sorted(set(sweep)):
            raise ValueError("give radii in ascending order, each once")
        return self


@dataclass(frozen=True)
class Universal:
    """A perturbation and how it came about."""

    v: torch.Tensor  # (...) of an image's shape, in units of the attacked space
    rho: float  # radius as a share of the mean l2 norm of the crafting images
    radius: float
    history: list[float]  # fooling rate on the crafting images after each pass


def project(v: torch.Tensor, radius: float | torch.Tensor, onto: Literal["ball", "sphere"] = "ball") -> torch.Tensor:
    """Return v scaled into the l2 ball of a radius, or onto its sphere; a v of zeros stays."""
    norm = v.double().norm().clamp(min=1e-30)
    scale = radius / norm
    return v * (scale.clamp(max=1.0) if onto == "ball" else scale).to(v.dtype)


def apply(inputs: torch.Tensor, v: torch.Tensor | float, bounds: tuple[float, float] | None) -> torch.Tensor:
    """Return inputs (N, ...) plus v (...), clipped to `bounds` where the space has them."""
    moved = inputs + v
    return moved if bounds is None else moved.clamp(*bounds)


def combined(steps: torch.Tensor, radius: float) -> torch.Tensor:
    """Return one step (...) for several (A, ...).

    Its direction is the mean of theirs, weighted by 1 / length: images close to a boundary are fooled by a common
    step, and far ones would outvote them. It is as long as all steps together, as far as they agree, but no longer
    than their mean or a quarter of the radius, whichever is more. One step alone stays as it is, and steps of length
    zero do not count.
    """
    lengths = steps.flatten(1).norm(dim=1)
    weights = torch.where(lengths > 0, lengths.reciprocal(), 0.0)
    shares = weights / weights.sum().clamp(min=1e-30)
    step = lengths.sum() * torch.einsum("a,a...->...", shares, unit(steps))
    mean = lengths.sum() / (lengths > 0).sum().clamp(min=1)
    return project(step, mean.clamp(min=radius / 4))


def predictions(
    network: Callable, images: torch.Tensor, v: torch.Tensor | float, bounds: tuple[float, float] | None
) -> torch.Tensor:
    """Return the predicted classes (N,) of images (N, ...) plus v."""
    with torch.no_grad():
        return torch.cat([network(apply(part, v, bounds)).argmax(1) for part in images.split(256)])


def craft(
    network: Callable,
    images: torch.Tensor,
    parameters: Parameters,
    radius: float,
    generator: torch.Generator,
    bounds: tuple[float, float] | None = None,
    kept: Kept | None = None,
) -> tuple[torch.Tensor, list[float]]:
    """Craft one perturbation for many images.

    Args:
        network: inputs (N, ...) to logits (N, classes), in eval mode.
        images: (M, ...) float32 crafting images.
        parameters: see `Parameters`; `rhos` and `radii` are not looked at.
        radius: of the l2 ball that v stays in.
        generator: its seed decides the order of the images in each pass; its state is left alone.
        bounds: perturbed images are clipped to them before the network sees them; v itself is not.
        kept: what the crafting keeps itself in, by its radius, and goes on from.

    Returns:
        v (...) after the pass with the highest fooling rate; fooling rate (share of all images whose prediction is not
        that of the clean image) after each pass.

    Deviation: the paper updates v after every image, which is `block: 1`, and keeps the last v. Here the steps of a
    block are computed at the same v and combined, and the best pass is kept. On a LeNet for scikit-learn's digits (1000
    crafting images, two passes, clipped to [0, 1]) blocks of 16 fool 28, 74 and 83 % of them at rho 0.2, 0.4 and 0.6;
    single images fool 22, 48 and 69 % in three to seven times the time.
    """
    options = deepfool.Parameters(
        iterations=parameters.iterations, overshoot=parameters.overshoot, candidates=parameters.candidates
    )
    kept, name = kept or Kept(), f"radius-{radius!r}"
    if (state := kept.load(name)) is None:
        state = {"clean": predictions(network, images, 0.0, bounds), "history": torch.zeros(0, dtype=torch.float64)}
        state |= {"v": torch.zeros_like(images[0]), "best": torch.zeros_like(images[0]), "place": torch.tensor(0)}
    clean, v, best = (state[key].to(images.device) for key in ("clean", "v", "best"))
    history, place = state["history"].tolist(), int(state["place"])

    def now() -> dict[str, torch.Tensor]:
        rates = torch.tensor(history, dtype=torch.float64)
        return {"clean": clean, "v": v, "best": best, "history": rates, "place": torch.tensor(place)}

    while len(history) < parameters.passes and max(history, default=0.0) < parameters.target:
        (draw,) = interface.Context(generator).generators([0], "universal", len(history))
        blocks = torch.randperm(len(images), generator=draw).to(images.device).split(parameters.block)
        for rows in blocks[place:]:
            points = apply(images[rows], v, bounds)
            with torch.no_grad():
                left = (network(points).argmax(1) == clean[rows]).nonzero()[:, 0]
            if len(left):
                steps, _, _ = deepfool.perturb(network, points[left], options, bounds=bounds)
                v = project(v + combined(steps, radius), radius, parameters.project)
            place += 1
            kept.save(name, now)
        rate = float((predictions(network, images, v, bounds) != clean).float().mean())
        best, place = v if rate >= max(history, default=0.0) else best, 0
        history.append(rate)
    if len(history) > len(state["history"]):  # there was something left to do
        kept.save(name, now, end=True)
    return best, history


def sweep(
    network: Callable,
    images: torch.Tensor,
    parameters: Parameters,
    generator: torch.Generator,
    bounds: tuple[float, float] | None = None,
    kept: Kept | None = None,
) -> Iterator[Universal]:
    """Yield one perturbation for each radius, ascending, crafted on images (M, ...); see `craft`."""
    mean = float(images.flatten(1).double().norm(dim=1).mean())
    rhos = parameters.rhos or [radius / mean if mean else float("nan") for radius in parameters.radii or ()]
    for rho, radius in zip(rhos, parameters.radii or [rho * mean for rho in rhos], strict=True):
        v, history = craft(network, images, parameters, radius, generator, bounds, kept)
        yield Universal(v, rho, radius, history)


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield perturbed images, all of one radius before the next.

    The crafting images are `context.crafting` (M, ...) where it is given, and the attacked ones otherwise. Facts: rho
    and radius, of v itself (what is left of it after clipping is the image's l2), and passes.
    """
    bounds = context.bounds if parameters.clip else None
    images = context.crafting
    if images is None:
        images = batches.images
    for found in sweep(network, images, parameters, context.generator, bounds, kept_by(context)):
        facts = {"rho": found.rho, "radius": found.radius, "passes": len(found.history)}
        for start, inputs, _ in batches:
            moved = apply(inputs, found.v, bounds)
            yield interface.Crafted(start, moved, facts, {f"rho-{found.rho:g}": found.v})
