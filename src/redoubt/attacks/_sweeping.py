"""Balls of rising radius, one after the other: what is found in one is an example in all larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from redoubt.attacks import interface
from redoubt.attacks._counting import Budgeted, facts
from redoubt.lazily import torch


class Swept(Budgeted):
    """Parameters of an attack in balls of several radii; epsilon in units of the attacked space."""

    epsilons: list[Annotated[float, Field(ge=0)]] = Field(description="radii, a sweep in rising order")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.epsilons != sorted(set(self.epsilons)) or not self.epsilons:
            raise ValueError("give at least one epsilon, each once, in rising order")
        return self


@dataclass
class Found:
    """What was found for the images of a batch; tensors have a row for each."""

    points: torch.Tensor  # (B, ...)
    fooled: torch.Tensor  # (B,) bool
    iterations: torch.Tensor  # (B,)
    spent: torch.Tensor  # (2, B) forward and backward passes


def sweep(
    batches: interface.Batches, epsilons: list[float], attack: Callable[..., Found], carry: bool = True
) -> Iterator[interface.Crafted]:
    """Yield examples, all images of one epsilon before the next.

    Args:
        batches: of inputs and labels.
        epsilons: radii, in rising order.
        attack: inputs (A, ...), labels (A,), an epsilon and the images' places among all (A) to what was found.
        carry: an image that was fooled is not attacked again in larger balls; it keeps its example and its counts.
    """
    done: dict[int, Found] = {}
    for epsilon in epsilons:
        for start, inputs, labels in batches:
            before = done.get(start)
            if before is None or not carry:
                done[start] = attack(inputs, labels, epsilon, list(range(start, start + len(labels))))
            elif len(rows := (~before.fooled).nonzero()[:, 0]):
                new = attack(inputs[rows], labels[rows], epsilon, [start + row for row in rows.tolist()])
                before.points[rows], before.fooled[rows] = new.points, new.fooled
                before.iterations[rows], before.spent[:, rows] = new.iterations, new.spent
            found = done[start]
            counts = {"epsilon": epsilon, "iterations": found.iterations.cpu().numpy().copy(), **facts(found.spent)}
            yield interface.Crafted(start, found.points.clone(), counts)
