"""Two runs beside each other, as one page that needs no network."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redoubt.judging.cells import shown
from redoubt.judging.comparison import GRADES, Comparison, Pair, Place, Run
from redoubt.report.page import choices, render, template
from redoubt.report.views import CLAIM_VERDICTS, anchors

MARKS = {"byte-equal": "=", "value-equal": "≈", "within the interval": "~", "in one run": "–", "outside": "✗"}
HEADINGS = {  # columns of the table of cells: heading, and whether its values are numbers
    "study": ("Study", False),
    "artifact": ("Artifact", False),
    "row": ("Row", False),
    "column": ("Column", False),
    "first": ("A", True),
    "second": ("B", True),
    "first_strong": ("Strong attacks, A", True),
    "second_strong": ("Strong attacks, B", True),
    "verdict": ("Verdict", False),
    "grade": ("Grade", False),
}
CLAIM_HEADINGS = {
    "study": "Study",
    "claim": "Claim",
    "first": "A",
    "second": "B",
    "first_strong": "Strong attacks, A",
    "second_strong": "Strong attacks, B",
}


def page(found: Comparison, links: tuple[Mapping[Place, str], Mapping[Place, str]] = ({}, {})) -> str:
    """Return a comparison as an HTML page: all cells, the worst first, and the claims that turned.

    Args:
        found: the comparison.
        links: of both runs, see `links`.
    """
    cells = [_cell(pair, links) for pair in sorted(found.cells, key=lambda pair: -GRADES.index(pair.grade))]
    names = (found.first, found.second)
    reports = [next(iter(own.values()), "").partition("#")[0] for own in links]
    pairs = [{"study": pair.study, "grade": pair.grade} for pair in found.cells]
    return render(
        "comparison.html.jinja",
        found=found,
        sides=list(zip("AB", names, reports, strict=True)),
        counts={grade: found.counts[grade] for grade in reversed(GRADES)},
        linked=any(links),
        marks=MARKS | CLAIM_VERDICTS,
        headings=HEADINGS,
        claim_headings=CLAIM_HEADINGS,
        cells=cells,
        cell_filters=choices({"grade": ("Grade", "grade"), "study": ("Study", "study")}, pairs),
        claim_filters=choices({"study": ("Study", "study")}, [claim.model_dump() for claim in found.claims]),
        script=template("script.js"),
    )


def _cell(pair: Pair, links: tuple[Mapping[Place, str], Mapping[Place, str]]) -> dict[str, Any]:
    place = (pair.study, pair.artifact, pair.row, pair.column)
    numbers: list[dict[str, str]] = []
    labels = [heading for heading, numeric in HEADINGS.values() if numeric]
    for name in ("reproduced", "adaptive"):
        for side, own in zip((pair.first, pair.second), links, strict=True):
            value = None if side is None else getattr(side, name)
            href = own.get(place, "") if name == "reproduced" else ""
            raw = "" if value is None else str(value)
            numbers.append({"label": labels[len(numbers)], "raw": raw, "text": shown(pair.metric, value), "href": href})
    verdicts = dict.fromkeys(side.verdict for side in (pair.first, pair.second) if side)
    return {"pair": pair, "numbers": numbers, "verdicts": " → ".join(verdicts)}


def links(run: Run, folder: Path, beside: Path) -> dict[Place, str]:
    """Return the addresses of a run's cells in its report, as a page has them; none where there is no report.

    Args:
        run: whose cells these are.
        folder: of its results.
        beside: file of the page.
    """
    report = folder / "report/index.html"
    if not report.is_file():
        return {}
    address = Path(os.path.relpath(report, beside.parent)).as_posix()
    named = zip(run.cells, anchors(run.cells.values()), strict=True)
    return {place: f"{address}#{anchor}" for place, anchor in named}
