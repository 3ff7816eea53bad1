"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from redoubt.study.entries.artifact import ArtifactEntry


def table(entry: ArtifactEntry, header: list[str], rows: Iterable[list[str]], notes: Iterable[str] = ()) -> str:
    """Return an artifact's title, stamp and caption, the table under its header, and notes, each on its own line."""
    lines = [f"# {entry.title}", "", f"_{entry.stamp}_", "", entry.caption, ""]
    lines += [_row(header), "|" + " --- |" * len(header), *map(_row, rows), *notes]
    return "\n".join(lines) + "\n"


def called(entry: ArtifactEntry, model: str, show: Iterable[str]) -> list[str]:
    """Return what a table calls a model: the values of the labels that it shows, empty where there is none."""
    return [entry.models[model].labels.get(label, "") for label in show]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
