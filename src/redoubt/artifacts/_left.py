"""What strong attacks leave along the line of a model: the dashed curve beside the reproduced one."""

from __future__ import annotations

from redoubt.artifacts.interface import Inputs
from redoubt.judging.cells import measured
from redoubt.lazily import pd
from redoubt.rows import picked
from redoubt.study.entries.artifact import ArtifactEntry

COLUMNS = ("adaptive", "adaptive_low", "adaptive_high")
"""Columns of a figure's CSV: the metric over the worst of several attacks, and its 95 % interval."""


def column_of(panel: str, measure: str) -> str:
    """Return what an answer calls the lines of one measure in one panel."""
    return "/".join(filter(None, (panel, measure)))


class Left:
    """The rows of the strong attacks that answer one line, by x.

    Args:
        entry: of the figure.
        inputs: its data.
        curve: the line, called as its model.
        column: see `column_of`.
        x: column along which the line is drawn.
    """

    def __init__(self, entry: ArtifactEntry, inputs: Inputs, curve: str, column: str, x: str) -> None:
        self._at: dict[float, pd.DataFrame] = {}
        answer = entry.answered(curve, column)
        if answer is not None and inputs.missing(answer.row, answer.attack) is None:
            rows = picked(inputs.rows(answer.row, answer.attack), answer.where)
            self._at = {float(value): part for value, part in rows.groupby(x)}

    def point(self, metric: str, value: float, clean: bool) -> dict[str, float | None]:
        """Return the columns of a point at x; nothing where no strong attack has that value.

        Args:
            metric: its spelling.
            value: of x.
            clean: the metric is that of clean images, which are the same along the sweep.
        """
        rows = self._at.get(min(self._at, default=value) if clean else value)
        if rows is None:
            return {}
        found = measured(metric, rows, None)
        return dict(zip(COLUMNS, (found.reproduced, found.ci_low, found.ci_high), strict=True))
