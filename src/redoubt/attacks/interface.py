"""What the attacks and the step that runs them agree on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from redoubt.errors import RedoubtError
from redoubt.lazily import torch


@dataclass(frozen=True)
class Crafted:
    """Adversarial inputs of one batch, in the order of its images."""

    start: int  # position of the batch's first image
    inputs: torch.Tensor  # (B, ...) adversarial inputs
    facts: dict[str, Any] = field(default_factory=dict)  # further columns: scalars or (B,) sequences
    shared: dict[str, torch.Tensor] = field(default_factory=dict)  # tensors that all images have in common


@dataclass(frozen=True)
class Context:
    """What an attack is given beside the model and the images.

    Draws for one image depend on the seed, the image's position in its split and a tag alone, so neither the size nor
    the order of batches changes them.
    """

    generator: torch.Generator  # the only source of randomness
    bounds: tuple[float, float] | None = None  # range of an input element; None where the space has none
    reads: Any = None  # rows of the attack that this one builds on, a pandas frame
    positions: torch.Tensor | None = None  # (N,) of the attacked images in their split; 0 to N - 1 when None
    crafting: torch.Tensor | None = None  # (M, ...) other inputs, for what is crafted on a set and applied to another

    def generators(self, rows: Iterable[int], *tag: Any) -> list[torch.Generator]:
        """Return one CPU generator for each image; `rows` are places among all attacked images."""
        seed = self.generator.initial_seed()
        places = [row if self.positions is None else int(self.positions[row]) for row in rows]
        digests = (hashlib.sha256(repr((seed, place, *tag)).encode()).digest() for place in places)
        return [torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1) for digest in digests]

    def rand(self, rows: Iterable[int], shape: tuple[int, ...], *tag: Any) -> torch.Tensor:
        """Return uniform draws in [0, 1), (images, *shape), on the CPU; another `tag` gives other draws."""
        return torch.stack([torch.rand(shape, generator=own) for own in self.generators(rows, *tag)])

    def randn(self, rows: Iterable[int], shape: tuple[int, ...], *tag: Any) -> torch.Tensor:
        """Return standard normal draws (images, *shape), on the CPU; another `tag` gives other draws."""
        return torch.stack([torch.randn(shape, generator=own) for own in self.generators(rows, *tag)])


class Batches:
    """Images and labels in fixed order, in batches, as often as asked.

    Args:
        images: (N, ...) float32.
        labels: (N,) int64.
        size: images a batch.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, size: int) -> None:
        self.images, self.labels, self.size = images, labels, size

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.labels), self.size):
            yield start, self.images[start : start + self.size], self.labels[start : start + self.size]


def module_of(network: Callable) -> torch.nn.Module | None:
    """Return the module inside a callable that wraps one as its attribute `network`; None where there is none."""
    inner: Any = network
    while not isinstance(inner, torch.nn.Module):
        if (inner := getattr(inner, "network", None)) is None:
            return None
    return inner


def thin_now(iteration: int, device: torch.device) -> bool:
    """Tell whether finished images leave a batch at this iteration (from 0).

    On a CPU that pays at once. On a GPU, to ask which images are left is to wait for it, so it is asked now and then.
    """
    return device.type == "cpu" or iteration % 10 == 9


def score(
    network: Callable,
    crafted: Crafted,
    clean: torch.Tensor,
    labels: torch.Tensor,
    predicted: torch.Tensor | None = None,
) -> dict[str, Any]:
    """Return the facts of each image of a crafted batch, from separate forward passes.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        crafted: the adversarial inputs.
        clean: (B, ...) inputs that they were made from.
        labels: (B,) true classes.
        predicted: (B,) classes that the model sees in the clean inputs; asked of it when None.

    Returns:
        label, clean_label, adversarial_label (B,); success: the prediction changed (B,); l2 and linf of the
        perturbation, x_l2 and x_linf of the clean input (B,), float64, in units of the inputs; loss: cross-entropy at
        the true label (B,) and logits (B, classes) of the adversarial inputs; further facts of the attack.

    Raises:
        RedoubtError: adversarial inputs or their logits are not finite.
    """
    if odd := int((~crafted.inputs.flatten(1).isfinite().all(1)).sum()):
        raise RedoubtError(f"the attack crafted inputs that are not finite: {odd} of {len(crafted.inputs)} images")
    with torch.no_grad():
        predicted = network(clean).argmax(1) if predicted is None else predicted
        logits = network(crafted.inputs)
    if not torch.isfinite(logits).all():
        raise RedoubtError("the model's logits on adversarial images are not finite")
    moved, still = (crafted.inputs - clean).flatten(1).double(), clean.flatten(1).double()
    adversarial = logits.argmax(1)
    return {
        "label": labels,
        "clean_label": predicted,
        "adversarial_label": adversarial,
        "success": adversarial != predicted,
        "l2": moved.norm(dim=1),
        "linf": moved.abs().amax(1),
        "x_l2": still.norm(dim=1),
        "x_linf": still.abs().amax(1),
        "loss": torch.nn.functional.cross_entropy(logits, labels, reduction="none"),
        "logits": logits,
        **crafted.facts,
    }
