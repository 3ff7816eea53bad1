"""What the catalog says of models and evaluations, and what artifacts ask of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redoubt.study.entries.model import ModelEntry


@dataclass(frozen=True)
class Model:
    """A model as it is at the chosen scale."""

    id: str
    study: str
    entry: ModelEntry  # what the training step reads, seeds aside
    labels: dict[str, str]
    seeds: tuple[int, ...]
    start: str | None
    missing: str | None  # why it cannot be run here; None when it can
    step: str  # the rule that makes it: pretrain (`baselines` of a study) or defend (its `models`)
    weights: str | None = None  # a user's file that it starts from

    @property
    def dataset(self) -> str:
        """Name of the dataset that it is trained on at this scale."""
        return self.entry.dataset

    def seed_for(self, seed: int) -> int:
        """Return which of its runs goes with a run `seed` of what is built on it: the same, else its first."""
        return seed if seed in self.seeds else self.seeds[0]


@dataclass(frozen=True)
class Run:
    """One attack on one model; `reads` are the finished runs that it builds on.

    Its examples are made on the model `crafted_on`, on the attacked one where that is None. `missing` tells why the
    scale leaves it out.
    """

    model: str
    attack: str
    reads: tuple[tuple[str, str], ...] = ()
    crafted_on: str | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Need:
    """What an artifact reads: the history of a model (attack None) or the rows of an attack on it."""

    model: str
    attack: str | None = None


@dataclass(frozen=True)
class Sampled:
    """What a number that a plot will draw is made of: a metric over rows of an attack on a model.

    `attack` is None where these are what was timed while the model was trained.

    `cell` names it: columns of the plot's CSV, with their values. `where` picks rows by their columns, and so does the
    column `along`, where there is one, by the value that the CSV has there.
    """

    cell: dict[str, Any]
    model: str
    attack: str | None
    metric: str
    where: dict[str, Any]
    along: str | None = None


@dataclass(frozen=True)
class Swept:
    """In a cell that a plot will draw: any value that the run's attack sweeps in the column, and those of `also`."""

    model: str
    attack: str
    also: tuple[float, ...] = ()


ANY = ...
"""In a cell that a plot will draw: a value that is known once it is drawn."""
