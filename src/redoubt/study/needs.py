"""Records that the catalog makes and others read."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Model:
    """A model as it is at the chosen scale."""

    id: str
    study: str
    entry: dict[str, Any]  # what the training step reads, seeds aside
    labels: dict[str, str]
    seeds: tuple[int, ...]
    start: str | None
    missing: str | None  # why it cannot be run here; None when it can
    step: str  # the step that makes it: pretrain (`baselines` of a study) or defend (its `models`)

    @property
    def dataset(self) -> str:
        """Name of the dataset that it is trained on at this scale."""
        return self.entry["dataset"]


@dataclass(frozen=True)
class Run:
    """One attack on one model.

    `reads` are the finished runs that it builds on; `crafted_on` is the model that examples are crafted on, the
    attacked one when None.
    """

    model: str
    attack: str
    reads: tuple[tuple[str, str], ...] = ()
    crafted_on: str | None = None


@dataclass(frozen=True)
class Need:
    """What an artifact reads: the history of a model (attack None) or the rows of an attack on it."""

    model: str
    attack: str | None = None
