"""The inner attack that adversarial trainings share: gradient steps in a ball around every image of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import Field

from redoubt.lazily import torch
from redoubt.networks._modes import eval_mode
from redoubt.records import Positive, Share, Strict

Label = Annotated[
    Literal["true", "predicted"],
    Field(description="class whose cross-entropy is raised: the image's own, or that of the network's prediction"),
]
Mode = Annotated[
    Literal["train", "eval"],
    Field(description="mode of the network while examples are made; running statistics stay as they are in both"),
]


class InnerAttack(Strict):
    """The examples that are trained on; lengths are in units of images in [0, 1]."""

    norm: Literal["linf", "l2"] = Field("linf", description="norm of the ball and of a step")
    epsilon: Positive = Field(8 / 255, description="radius of the ball")
    steps: Annotated[int, Field(gt=0)] = Field(10, description="gradient steps")
    step_size: Positive = Field(2 / 255, description="length of a step")
    random_start: bool = Field(True, description="start anywhere in the ball; at the image when false")
    label: Label = "true"
    mode: Mode = "train"


class Weighted(Strict):
    """How clean images and examples share the loss, and from when on there are examples."""

    clean_weight: Share = Field(
        0.0, description="weight of the clean images' loss, a separate pass before that of the examples; none when 0"
    )
    adversarial_from: Annotated[int, Field(ge=0)] = Field(
        0, description="epoch, from 0, before which training is on clean images alone"
    )


class Mixed(InnerAttack):
    """The examples that are trained on beside clean images; lengths are in units of images in [0, 1]."""

    clean: Share = Field(0.0, description="share of the images of a batch that stay clean")


def mixed(
    network: Callable,
    images: torch.Tensor,
    labels: torch.Tensor,
    options: InnerAttack,
    modules: torch.nn.Module,
    clean: float,
    predicted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return a batch (B, C, H, W) in [0, 1] whose first share, `clean`, is as given and whose others are `examples`."""
    kept = round(clean * len(images))
    if kept == len(images):
        return images
    seen = None if predicted is None else predicted[kept:]
    return torch.cat([images[:kept], examples(network, images[kept:], labels[kept:], options, modules, seen)])


def examples(
    network: Callable,
    images: torch.Tensor,
    labels: torch.Tensor,
    options: InnerAttack,
    modules: torch.nn.Module,
    predicted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return an example (B, C, H, W) in [0, 1] for every image of a batch.

    Args:
        network: images (B, C, H, W) in [0, 1] to logits (B, classes).
        images: (B, C, H, W) in [0, 1].
        labels: (B,) true classes.
        options: the attack.
        modules: what `network` runs; its modes and buffers are afterwards what they were.
        predicted: (B,) classes that a pass before has seen in the images, for `label: predicted`; asked for when None.

    Random starts come from torch's global generator.

    Cost: `steps` forward and backward passes, and a forward pass where `label` is predicted and not known.
    """
    with _mode(modules, options.mode):
        if options.label == "predicted":
            with torch.no_grad():
                labels = network(images).argmax(1) if predicted is None else predicted
        found = _start(images, options)
        for _ in range(options.steps):
            found = found.detach().requires_grad_()
            entropy = torch.nn.functional.cross_entropy(network(found), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(entropy, found)
            found = _projected(found.detach() + options.step_size * _direction(gradient, options), images, options)
    return found


def _start(images: torch.Tensor, options: InnerAttack) -> torch.Tensor:
    """Return where the steps begin: uniform in the ball, clipped to [0, 1], or the images."""
    if not options.random_start:
        return images
    if options.norm == "linf":
        moved = 2.0 * torch.rand_like(images) - 1.0
    else:
        direction = torch.randn_like(images)
        radius = torch.rand(len(images), device=images.device) ** (1 / images[0].numel())
        moved = direction * _per_image(radius / _length(direction), images)
    return (images + options.epsilon * moved).clamp(0.0, 1.0)


def _direction(gradient: torch.Tensor, options: InnerAttack) -> torch.Tensor:
    """Return the steepest direction of length one in the attack's norm; zero where there is no gradient."""
    if options.norm == "linf":
        return gradient.sign()
    length = _length(gradient)
    return gradient * _per_image(torch.where(length > 0, 1 / length, 0.0), gradient)


def _projected(moved: torch.Tensor, images: torch.Tensor, options: InnerAttack) -> torch.Tensor:
    """Return points in the ball around `images` and in [0, 1]."""
    if options.norm == "linf":
        low, high = (images - options.epsilon).clamp_min(0.0), (images + options.epsilon).clamp_max(1.0)
        return torch.clamp(moved, low, high)
    change = moved - images
    shrink = (options.epsilon / _length(change)).clamp_max(1.0)
    return (images + change * _per_image(shrink, images)).clamp(0.0, 1.0)


def _length(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten(1).norm(dim=1)


def _per_image(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *[1] * (images.dim() - 1))


@contextmanager
def _mode(modules: torch.nn.Module, mode: str) -> Iterator[None]:
    if mode == "eval":
        with eval_mode(modules):
            yield
        return
    buffers = list(modules.buffers())
    before = [buffer.clone() for buffer in buffers]
    # A pass before may not have had its gradient yet: to it, statistics that are back at their values never changed.
    with torch.autograd._unsafe_preserve_version_counter(tuple(buffers)):
        try:
            yield
        finally:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
