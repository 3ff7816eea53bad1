"""From an artifact's entry to its files: what the table and the figure step share."""

from __future__ import annotations

import io
from typing import Any

from redoubt import registry
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.study.entries.artifact import ArtifactEntry


def draw(entry: ArtifactEntry | dict[str, Any]) -> Drawing:
    """Return a table or figure as its entry describes it."""
    entry = ArtifactEntry.parse(entry)
    return registry.method("artifacts", entry.plot).draw(entry, Inputs(entry))


def data(drawing: Drawing) -> str:
    """Return the numbers behind a table or figure as CSV, every float spelt so that it reads back exactly."""
    return drawing.data.to_csv(index=False, lineterminator="\n")


def picture(drawing: Drawing, kind: str) -> bytes:
    """Return a figure as a file of some `kind`, svg or png.

    Raises:
        RedoubtError: two dollar signs in a title or label enclose what is no formula.
    """
    from redoubt.artifacts import _style as style

    content = io.BytesIO()
    try:
        style.save(drawing.figure, content, kind)
    except ValueError as error:
        if "Parse" not in str(error):  # what matplotlib's reader of formulas calls its errors
            raise
        told = " ".join(str(error).split())[:200]
        raise RedoubtError(
            f"a title or label holds $...$ that is no formula ({told}); write \\$ for a dollar"
        ) from None
    return content.getvalue()
