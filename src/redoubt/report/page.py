"""The report as one page that needs no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from redoubt.judging.cells import Cell
from redoubt.judging.held import Held
from redoubt.judging.tables import read_records
from redoubt.report import gates
from redoubt.report.views import (
    CELL_VERDICTS,
    CLAIM_VERDICTS,
    HEADINGS,
    cell_counts,
    cell_view,
    claim_views,
    counts,
    study_views,
)

TEMPLATES = Path(__file__).resolve().parent / "templates"


def page(entry: dict[str, Any], results: Path, worlds: Sequence[Held] = ()) -> str:
    """Return the report as one HTML page that needs no other file.

    Args:
        entry: `Catalog.report_entry()`.
        results: folder of the scale's results.
        worlds: in what share of simulated worlds claims hold.

    Raises:
        RedoubtError: scorecard, claims or the data of an artifact are missing or broken.
    """
    cells = read_records(results / "scorecard.csv", Cell)
    reds = gates.red(entry, results)
    claims = [_said(claim, reds.get(claim["study"])) for claim in claim_views(results / "claims.csv", entry, worlds)]
    studies = [{**_said(study, reds[study["id"]]), "red": reds[study["id"]]} for study in study_views(entry, results)]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        entry=entry,
        style=_template("style.css"),
        script=_template("script.js"),
        headings=HEADINGS,
        marks=CELL_VERDICTS | CLAIM_VERDICTS,
        cells=[_said(cell_view(cell), reds.get(cell.study)) for cell in cells],
        cell_counts=cell_counts(cells),
        claims=claims,
        claim_counts=counts((claim["here"] for claim in claims), CLAIM_VERDICTS),
        strong_counts=counts((claim["adaptive_verdict"] for claim in claims), CLAIM_VERDICTS),
        studies=studies,
    )


def _said(view: dict[str, Any], red: list[str] | None) -> dict[str, Any]:
    """Return what the page says of a study, a claim or a cell, with care where a gate of the study is red."""
    return gates.quoted(view) if red else view


def _template(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
