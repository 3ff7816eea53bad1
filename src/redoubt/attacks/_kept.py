"""What a crafting on many images has so far: kept while it runs, so that one that is stopped can go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from redoubt.attacks.interface import Context
from redoubt.lazily import torch

Tensors = dict[str, "torch.Tensor"]


class Kept:
    """Keeps nothing; `redoubt.evaluation.blocks` has one that does."""

    def load(self, name: str) -> Tensors | None:
        """Return what was kept under a name, on the CPU; random draws then go on from where they were."""
        return None

    def save(self, name: str, tensors: Callable[[], Tensors], end: bool = False) -> None:
        """Keep something under a name, if it is time to; at the `end` of its crafting in any case."""


@dataclass(frozen=True)
class Keeping(Context):
    """What an attack is given where it may be stopped, and goes on later."""

    kept: Kept = field(default_factory=Kept)


def kept_by(context: Context) -> Kept:
    """Return what an attack keeps its crafting in."""
    return context.kept if isinstance(context, Keeping) else Kept()
