"""The report as one page that needs no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from redoubt.judging.cells import Cell
from redoubt.judging.decided import Row, read
from redoubt.judging.held import Held
from redoubt.judging.tables import read_records
from redoubt.report import curves, gates
from redoubt.report.origins import panels
from redoubt.report.views import (
    CELL_FILTERS,
    CELL_VERDICTS,
    CLAIM_FILTERS,
    CLAIM_HEADINGS,
    CLAIM_VERDICTS,
    HEADINGS,
    cell_counts,
    cell_views,
    claim_views,
    counts,
    packed,
    study_views,
)

TEMPLATES = Path(__file__).resolve().parent / "templates"
NOTHING: Mapping[str, Any] = MappingProxyType({})


def page(
    entry: dict[str, Any],
    results: Path,
    worlds: Sequence[Held] = (),
    behind: Mapping[str, Any] = NOTHING,
    seconds: Mapping[str, float] = NOTHING,
    scored: Sequence[Cell] | None = None,
    decided: Sequence[Row] | None = None,
) -> str:
    """Return the report as one HTML page that needs no other file.

    Args:
        entry: `Catalog.report_entry()`.
        results: folder of the scale's results.
        worlds: in what share of simulated worlds claims hold.
        behind: what the numbers are made of, see `redoubt.report.origins`.
        seconds: that jobs took, by their names.
        scored: what scorecard.csv holds, which is read when None.
        decided: what claims.csv holds, likewise.

    Raises:
        RedoubtError: scorecard, claims or the data of an artifact are missing or broken.
    """
    scored = read_records(results / "scorecard.csv", Cell) if scored is None else scored
    decided = read(results / "claims.csv") if decided is None else decided
    reds = gates.red(entry, results)
    studies = [{**_said(study, reds[study["id"]]), "red": reds[study["id"]]} for study in study_views(entry, results)]
    shorts = {study["id"]: study["short"] for study in studies}
    cells, claims = [], []
    for view in cell_views(scored):
        study = view["study"]["raw"]
        cells.append(_said(view, reds.get(study)) | {"short": shorts.get(study, study)})
    for claim in claim_views(decided, entry, worlds):
        study, red = claim["study"], reds.get(claim["study"], [])
        claims.append(_said(claim, red) | {"short": shorts.get(study, study), "red": len(red)})
    told, rows = panels(scored, cells, behind, results)
    points = curves.points(cells, told["cells"])
    return render(
        "page.html.jinja",
        entry=entry,
        script=template("script.js"),
        panel=template("panel.js"),
        panels=packed(told),
        seconds=packed(dict(seconds)),
        rows=rows,
        points=points,
        titles={artifact["anchor"]: artifact["title"] for study in studies for artifact in study["artifacts"]},
        headings=HEADINGS,
        claim_headings=CLAIM_HEADINGS,
        marks=CELL_VERDICTS | CLAIM_VERDICTS,
        cells=cells,
        anchors={view["anchor"] for view in cells},
        cell_counts=cell_counts(scored),
        cell_filters=choices(CELL_FILTERS, [{name: cell[name]["raw"] for name in CELL_FILTERS} for cell in cells]),
        claims=claims,
        claim_counts=counts((claim["here"] for claim in claims), CLAIM_VERDICTS),
        claim_filters=choices(CLAIM_FILTERS, claims),
        strong_counts=counts((claim["adaptive_verdict"] for claim in claims), CLAIM_VERDICTS),
        studies=studies,
        compared=(results / "report/comparison.html").is_file(),
    )


def render(name: str, **facts: Any) -> str:
    """Return a template of the report filled in, with `style`, the report's."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(style=template("style.css"), **facts)


def _said(view: dict[str, Any], red: list[str] | None) -> dict[str, Any]:
    """Return what the page says of a study, a claim or a cell, with care where a gate of the study is red."""
    return gates.quoted(view) if red else view


def choices(filters: Mapping[str, tuple[str, str]], views: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return by column what a filter is called and the values among which it lets choose."""
    found = {name: dict.fromkeys(view[key] for view in views) for name, (_, key) in filters.items()}
    return {name: (filters[name][0], list(values)) for name, values in found.items()}


def template(name: str) -> Markup:
    """Return the text of a file of the templates, as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
