"""How a run ended, on one screen."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from redoubt.judging.cells import Cell
from redoubt.judging.decided import Row, read, totals
from redoubt.judging.tables import read_records
from redoubt.report.views import CELL_VERDICTS, CLAIM_VERDICTS, cell_counts, counts

WIDTH, LINES = 80, 40
SHORT = {
    "reproduced": "repro",
    "reproduced with a declared change": "changed",
    "order only": "order",
    "undecided": "open",
    "not-comparable": "no-comp",
}
"""Headings of verdicts where there is little room."""
COLUMNS = (6, 8, 6, 9, 6, 8, 8)


def summary(entry: dict[str, Any], results: Path) -> str:
    """Return the results on one screen: as much detail as fits 40 lines of 80 columns.

    Raises:
        RedoubtError: scorecard or claims are missing or broken.
    """
    cells, claims = read_records(results / "scorecard.csv", Cell), totals(read(results / "claims.csv"))
    head = ["Redoubt", *_wrapped(entry["stamp"]), ""]
    page = results / "report" / "index.html"
    tail = ["", f"Report: {page}" + ("" if page.exists() else " (not written yet)")]
    text: list[str] = []
    for artifacts, statements in ((True, True), (True, False), (False, False)):
        text = [*head, *_cell_lines(cells, artifacts), "", *_claim_lines(claims, statements), *tail]
        if len(text) <= LINES:
            break
    return "\n".join(text) + "\n"


def _cell_lines(cells: list[Cell], artifacts: bool) -> list[str]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(f"{cell.study}/{cell.artifact}" if artifacts else cell.study, []).append(cell)
    lines = [_line("Cells that count", map(SHORT.get, CELL_VERDICTS, CELL_VERDICTS))]
    lines += [_line(f"  {name}", map(str, cell_counts(own).values())) for name, own in groups.items()]
    return lines + ([_line("  all", map(str, cell_counts(cells).values()))] if len(groups) > 1 else [])


def _line(name: str, values: Iterable[str]) -> str:
    first = WIDTH - sum(COLUMNS)
    fitting = name if len(name) <= first else f"{name[: first - 3]}..."
    return fitting.ljust(first) + "".join(value.rjust(width) for value, width in zip(values, COLUMNS, strict=True))


def _claim_lines(claims: list[Row], statements: bool) -> list[str]:
    found = counts((claim.said for claim in claims), CLAIM_VERDICTS)
    words = ", ".join(f"{count} {name}" for name, count in found.items())
    lines = _wrapped(f"Claims, by what the numbers of this run say: {words}")
    if any(claim.adaptive_verdict is not None for claim in claims):
        strong = counts((claim.adaptive_verdict or "not-run" for claim in claims), CLAIM_VERDICTS)
        lines += _wrapped(f"  under strong attacks: {', '.join(f'{count} {name}' for name, count in strong.items())}")
    if statements:
        for claim in claims:
            line = f"  {claim.said:9} {claim.study}/{claim.claim}: {claim.statement}"
            lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 3].rstrip()}...")
        return lines
    for study in dict.fromkeys(claim.study for claim in claims):
        for verdict in CLAIM_VERDICTS:
            ids = [claim.claim for claim in claims if (claim.study, claim.said) == (study, verdict)]
            lines += _wrapped(f"  {study} {verdict}: {' '.join(ids)}") if ids else []
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ")
