"""Small records that the catalog and the artifacts share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """What an artifact reads: the history of a model (attack None) or the rows of an attack on it."""

    model: str
    attack: str | None = None
