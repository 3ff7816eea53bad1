"""From an artifact's entry to its files: what the table and the figure step share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redoubt import registry
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.files import atomic_path, write_text


def draw(entry: dict[str, Any]) -> Drawing:
    """Return a table or figure as its entry describes it."""
    return registry.method("artifacts", entry["plot"]).draw(entry, Inputs(entry))


def write_data(drawing: Drawing, path: Path) -> None:
    """Write the numbers behind a table or figure as CSV, every float spelt so that it reads back exactly."""
    write_text(path, drawing.data.to_csv(index=False, lineterminator="\n"))


def write_figure(drawing: Drawing, path: Path) -> None:
    """Write a figure; the suffix of `path` says whether as svg or png."""
    from redoubt.artifacts import style

    with atomic_path(path) as temporary:
        style.save(drawing.figure, temporary, path.suffix[1:])
