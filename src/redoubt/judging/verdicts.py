"""Verdicts on cells: is our number the printed one, by a test of equivalence, and does at least the order hold?

`reproduced`: our 90 % interval lies within the margin (`redoubt.judging.margins`) around the printed number, that is,
two one-sided tests of 5 % each reject that the numbers differ by more (TOST, Schuirmann 1987).
`deviates`: our 95 % interval lies outside of it.
`order only`: the cell deviates, and all pairs of its block whose printed numbers differ have the printed order, with
95 % intervals apart.
`undecided`: neither, so that more images or runs are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import combinations

from redoubt.judging.cells import Cell, Judgement
from redoubt.study.entries.artifact import ArtifactEntry


def equivalence(cell: Cell) -> Judgement:
    """Return the verdict on a cell by its numbers alone; one that is not to be judged keeps its own."""
    if cell.verdict != "undecided" or cell.published is None or cell.margin is None:
        return cell.verdict
    low, high = cell.published - cell.margin, cell.published + cell.margin
    if cell.ci90_low is not None and cell.ci90_high is not None and low <= cell.ci90_low and cell.ci90_high <= high:
        return "reproduced"
    if cell.ci_low is not None and cell.ci_high is not None and (cell.ci_high < low or high < cell.ci_low):
        return "deviates"
    return "undecided"


def ordered(block: Sequence[Cell]) -> bool:
    """Return whether all pairs of a block have the printed order, by intervals that are apart; not if none differ."""
    ascending = sorted(block, key=lambda cell: cell.published or 0.0)
    pairs = [(less, more) for less, more in combinations(ascending, 2) if less.published != more.published]
    return bool(pairs) and all(
        less.ci_high is not None and more.ci_low is not None and less.ci_high < more.ci_low for less, more in pairs
    )


def judge(entry: ArtifactEntry, cells: Sequence[Cell], block: Callable[[Cell], Hashable]) -> list[Cell]:
    """Return the cells of a table with their verdicts.

    Args:
        entry: of the artifact.
        cells: those to be judged are `undecided`.
        block: function that tells which cells are of one block.
    """
    blocks: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        if cell.published is not None:
            blocks.setdefault(block(cell), []).append(cell)
    in_order = {key for key, own in blocks.items() if ordered(own)}
    result = []
    for cell in cells:
        verdict = equivalence(cell)
        if verdict == "deviates" and block(cell) in in_order:
            verdict = "order only"
        declared = entry.declared_of(cell.row, cell.column)
        if cell.verdict == "undecided" and declared:
            verdict = "reproduced with a declared change" if verdict == "reproduced" else verdict
            cell = cell.model_copy(update={"reason": f"declared: {'; '.join(declared)}"})
        result.append(cell.model_copy(update={"verdict": verdict}))
    return result
