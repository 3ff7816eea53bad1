"""How often a network is asked about each image, forward and backward, and a limit on that.

Source: Cinà et al. (AAAI 2025, AttackBench), section 3, where a query is a forward or a backward pass of one image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from redoubt.attacks._expectation import Expectation
from redoubt.errors import RedoubtError
from redoubt.lazily import torch
from redoubt.records import Strict


class Budgeted(Strict):
    """Parameters of an attack that counts its queries."""

    queries: Annotated[int, Field(ge=32)] | None = Field(
        None,
        description="forward and backward passes for an image at most, for each epsilon of a sweep; null: no limit",
    )


class Counted:
    """A network that counts the passes of each image of a batch, and refuses those beyond a limit.

    A pass of a model that is averaged over draws counts once; the entry has the number of draws.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        rows: (A,) places of the images, in the batch, that the network is asked about.
        spent: (2, N) forward and backward passes of each image of the batch so far, counted in place.
        limit: passes of an image, both kinds together; None: any number.
    """

    def __init__(self, network: Callable, rows: torch.Tensor, spent: torch.Tensor, limit: int | None = None) -> None:
        self.network, self.rows, self.spent, self.limit = network, rows, spent, limit

    @classmethod
    def begin(cls, network: Callable, inputs: torch.Tensor, limit: int | None = None) -> Counted:
        """Return the network for all inputs (N, ...), none of which has been asked about."""
        rows = torch.arange(len(inputs), device=inputs.device)
        return cls(network, rows, torch.zeros(2, len(inputs), dtype=torch.int64, device=inputs.device), limit)

    def of(self, places: torch.Tensor) -> Counted:
        """Return the network for some of its images, at `places` among them; both count together."""
        return Counted(self.network, self.rows[places], self.spent, self.limit)

    def left(self) -> torch.Tensor:
        """Return how many passes each image still has, (A,)."""
        if self.limit is None:
            return torch.full_like(self.rows, torch.iinfo(torch.int64).max)
        return self.limit - self.spent.sum(0)[self.rows]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (A, classes) of one input for each image.

        Raises:
            RedoubtError: an image has no pass left, now or on the way back.
        """
        self._count(0)
        logits = self.network(inputs)
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count(1))
        return logits

    def drawn(self, backward: bool) -> Expectation | None:
        """Return the random model whose passes it counts, once one of them is counted; None where it draws nothing.

        Raises:
            RedoubtError: an image has no pass left.
        """
        if not isinstance(self.network, Expectation):
            return None
        for kind in range(1 + backward):
            self._count(kind)
        return self.network

    def _count(self, kind: int) -> None:
        self.spent[kind, self.rows] += 1
        if self.limit is not None and bool((self.left() < 0).any()):
            raise RedoubtError(f"the attack asks for more than its {self.limit} queries of an image")


def facts(spent: torch.Tensor) -> dict[str, Any]:
    """Return the columns of passes (2, N): `queries`, forward and backward together, and `backwards` alone."""
    return {"queries": spent.sum(0).cpu().numpy(), "backwards": spent[1].cpu().numpy().copy()}
