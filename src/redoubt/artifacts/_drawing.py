"""From an artifact's entry to its numbers: what the table and the figure step share."""

from __future__ import annotations

from typing import Any

from redoubt import registry
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.study.entries.artifact import ArtifactEntry


def draw(entry: ArtifactEntry | dict[str, Any]) -> Drawing:
    """Return a table or figure as its entry describes it."""
    entry = ArtifactEntry.parse(entry)
    return registry.method("artifacts", entry.plot).draw(entry, Inputs(entry))


def data(drawing: Drawing) -> str:
    """Return the numbers behind a table or figure as CSV, every float spelt so that it reads back exactly."""
    return drawing.data.to_csv(index=False, lineterminator="\n")
