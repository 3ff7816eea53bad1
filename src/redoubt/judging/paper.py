"""What a paper prints in the cells of one table, by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redoubt.judging.cells import Cell, Print
from redoubt.judging.margins import margin
from redoubt.metrics.interface import read
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.published import Published, read_published

Block = tuple[str, ...]


class Paper:
    """The printed numbers of a table.

    Args:
        entry: of the table.
        labels: those that agree in rows of one block.
        metrics: by column.
    """

    def __init__(self, entry: ArtifactEntry, labels: Sequence[str], metrics: Mapping[str, str]) -> None:
        self.entry, self.labels, self.metrics = entry, labels, metrics
        self.numbers = {
            (row, column): number
            for (artifact, row, column), number in read_published(entry.published).items()
            if artifact == entry.id and column in metrics and row in entry.models
        }

    def block_of(self, row: str, column: str) -> Block:
        """Return the block of a cell: the column, and what the labels of its row are."""
        return (column, *(self.entry.models[row].labels.get(label, "") for label in self.labels))

    def block(self, cell: Cell) -> Block:
        """Return the block of a cell."""
        return self.block_of(cell.row, cell.column)

    def prints(self, row: str, column: str, apart: str | None = None, not_counted: str | None = None) -> Print:
        """Return what the paper prints in a cell, with its margin."""
        number = self.numbers.get((row, column))
        if number is None:
            return Print(apart=apart, not_counted=not_counted)
        return Print(number, self._margin(row, column, number), apart, not_counted)

    def _margin(self, row: str, column: str, number: Published) -> float:
        own = self.block_of(row, column)
        others = [other for place, other in self.numbers.items() if self.block_of(*place) == own]
        kind = read(self.metrics[column]).KIND
        return margin(number, others, kind, self.entry.verdict)
