"""What the report shows, read from scorecard.csv, claims.csv and the files of all artifacts that are drawn."""

import base64
import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

from redoubt.files import canonical_json
from redoubt.judging.cells import Cell, read_cells, shown, with_spread
from redoubt.judging.claims import ALL
from redoubt.judging.decided import Row, totals
from redoubt.judging.held import Held
from redoubt.judging.tables import read_csv

Named = TypeVar("Named")
NUMBERS = ("difference", "ci_low", "ci_high", "margin")
CELL_VERDICTS = {
    "reproduced": "✓",
    "reproduced with a declared change": "✓",
    "order only": "↕",
    "deviates": "✗",
    "undecided": "?",
    "not-comparable": "○",
    "not-run": "–",
}
CLAIM_VERDICTS = {"holds": "✓", "fails": "✗", "undecided": "?", "not-comparable": "○", "not-run": "–"}
HEADINGS = {  # columns of the table of all cells: heading, and whether its values are numbers
    "study": ("Study", False),
    "artifact": ("Artifact", False),
    "row": ("Row", False),
    "column": ("Column", False),
    "published": ("Printed", True),
    "reproduced": ("Reproduced", True),
    "difference": ("Difference", True),
    "adaptive": ("Strong attacks", True),
    "verdict": ("Verdict", False),
}
CELL_FILTERS = {name: (HEADINGS[name][0], name) for name in ("study", "artifact", "verdict")}
CLAIM_HEADINGS = {
    "study": "Study",
    "claim": "Claim",
    "printed": "Printed",
    "reproduced": "Reproduced",
    "adaptive": "Strong attacks",
    "gates": "Gates",
}
CLAIM_FILTERS = {  # by column: what the filter is called, and what of a claim it looks at
    "study": ("Study", "study"),
    "printed": ("Printed", "published_verdict"),
    "reproduced": ("Reproduced", "here"),
    "adaptive": ("Strong attacks", "adaptive_verdict"),
}
KINDS = {"svg": "image/svg+xml", "png": "image/png"}  # of pictures, the preferred first
MAX_PICTURES = 4_000_000  # bytes of all pictures that the page holds
MAX_DATA_ROWS = 500  # of the numbers behind a figure that the page lists; the download has all


# -- reading ----------------------------------------------------------------------------------------------------------


def claim_views(found: Sequence[Row], entry: dict[str, Any], worlds: Iterable[Held] = ()) -> list[dict[str, Any]]:
    """Return what the page shows of each claim: its row as text, with `parts` (datasets), `checks` and `worlds`."""
    result = []
    simulated = {(row.study, row.claim): row for row in worlds}
    for number, total in enumerate(totals(found)):
        own = [row for row in found if (row.study, row.claim) == (total.study, total.claim) and row.dataset != ALL]
        known = entry["studies"].get(total.study, {}).get("claims", {}).get(total.claim, {})
        view: dict[str, Any] = {**_claim_text(total), "number": number, "title": known.get("title", "")}
        view["parts"] = [_claim_text(row) for row in own if not row.check]
        view["checks"] = [_claim_text(row) for row in own if row.check]
        view["worlds"] = _worlds(simulated.get((total.study, total.claim)), entry["studies"].get(total.study))
        result.append(view)
    return result


def _worlds(row: Held | None, study: dict[str, Any] | None) -> dict[str, Any]:
    """Return what is shown of simulated worlds; `stale` where they are those of a claim that has changed since."""
    if row is None:
        return {"null": "—", "printed": "—", "reason": "not simulated", "stale": False}
    claims = study["claims"] if study else {}
    basis = claims.get(row.claim, {}).get("basis")
    text = f"{row.worlds} worlds of each kind at scale {row.scale}"
    return row.shares | {"reason": "; ".join(filter(None, [text, row.reason])), "stale": row.basis != basis}


def _claim_text(row: Row) -> dict[str, str]:
    texts = {name: _raw(value) for name, value in row.model_dump().items()}
    texts["here"] = row.said
    texts["adaptive_verdict"] = row.adaptive_verdict or "not-run"
    for name in ("effect", "p", "adjusted"):
        value = getattr(row, name)
        texts[name] = "—" if value is None else f"{value:.3g}"
    texts["effect"] = f"+{texts['effect']}" if (row.effect or 0) > 0 else texts["effect"]
    texts["n"] = _count(row.n) if row.n else "—"
    return texts


# -- cells ------------------------------------------------------------------------------------------------------------


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _raw(value: Any) -> str:
    return "" if value is None else str(value)


def anchors(cells: Iterable[Cell]) -> list[str]:
    """Return what the address of the page calls each cell, the same in scorecard and table.

    Signs that an address would spell otherwise become dots; cells that would be called alike are numbered.
    """
    found: list[str] = []
    seen: Counter[str] = Counter()
    for cell in cells:
        name = re.sub(
            r"[^\w-]+", ".", f"cell {cell.study} {cell.artifact} {cell.row} {cell.column}", flags=re.ASCII
        ).rstrip(".")
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return found


def cell_views(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return what the page shows of cells, each with its `anchor`."""
    return [{**cell_view(cell), "anchor": name} for cell, name in zip(cells, anchors(cells), strict=True)]


def cell_view(cell: Cell) -> dict[str, dict[str, str]]:
    """Return what the page shows of a cell: for each field, and its intervals, the text and the raw value."""
    numbers = {name: shown(cell.metric, getattr(cell, name)) for name in NUMBERS}
    texts = {name: numbers[name] for name in ("difference", "margin")}
    texts["published"] = with_spread(cell.metric, cell.published, cell.published_std)
    texts["reproduced"] = with_spread(cell.metric, cell.reproduced, cell.std)
    if (cell.difference or 0) > 0:
        texts["difference"] = f"+{texts['difference']}"
    texts["interval"] = f"{numbers['ci_low']} – {numbers['ci_high']}" if cell.ci_low is not None else "—"
    texts |= {"n": _count(cell.n), "seeds": _count(cell.seeds)}
    texts |= _strong(cell)
    raw = {name: _raw(value) for name, value in cell.model_dump().items()}
    raw |= {"interval": raw["ci_low"], "adaptive_interval": raw["adaptive_low"]}
    view = {name: {"text": texts.get(name, value), "raw": value} for name, value in raw.items()}
    view["reproduced"]["worse"] = _lowered(cell) if cell.worse else ""
    return view


def _strong(cell: Cell) -> dict[str, str]:
    """Return the texts of what strong attacks leave; a dash where that is not known."""
    if cell.adaptive is None:
        return dict.fromkeys(("adaptive", "adaptive_interval", "queries", "optimality"), "—")
    low, high = shown(cell.metric, cell.adaptive_low), shown(cell.metric, cell.adaptive_high)
    return {
        "adaptive": shown(cell.metric, cell.adaptive),
        "adaptive_interval": f"{low} – {high}",
        "queries": "—" if cell.queries is None else _count(round(cell.queries)),
        "optimality": "—" if cell.optimality is None else f"{cell.optimality:.2f}",
    }


def _lowered(cell: Cell) -> str:
    """Return in words, for those who do not see a line through a number, what became of it, and by whom."""
    by = f" by {cell.adaptive_by}" if cell.adaptive_by else ""
    return f"no longer holds: {shown(cell.metric, cell.adaptive)} is left{by}"


def counts(found: Iterable[str], verdicts: Iterable[str] = CELL_VERDICTS) -> dict[str, int]:
    """Return how often each verdict is found, in the order of `verdicts`."""
    totals = Counter(found)
    return {name: totals[name] for name in verdicts}


def cell_counts(cells: Iterable[Cell]) -> dict[str, int]:
    """Return how many cells have each verdict, without those that are a definition or repeat others."""
    return counts(cell.verdict for cell in cells if cell.not_counted is None)


def wide(cells: list[Cell]) -> dict[str, Any]:
    """Return the cells of a table as rows and columns, both in the order of the file, and why some were not run."""
    columns = list(dict.fromkeys(cell.column for cell in cells))
    places: dict[str, dict[str, list]] = {}
    for cell, view in zip(cells, cell_views(cells), strict=True):
        places.setdefault(cell.row, {}).setdefault(cell.column, []).append(view)
    lines = [{"name": name, "cells": [row.get(column, []) for column in columns]} for name, row in places.items()]
    reasons = dict.fromkeys(cell.reason for cell in cells if cell.verdict == "not-run" and cell.reason)
    strong = any(cell.adaptive is not None for cell in cells)
    return {"columns": columns, "lines": lines, "reasons": list(reasons), "adaptive": strong}


# -- artifacts --------------------------------------------------------------------------------------------------------


def data_uri(kind: str, content: bytes) -> str:
    """Return bytes as a `data:` address, so that the page holds them itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def packed(value: Any) -> str:
    """Return JSON data as gzip in base64, which a script of the page unpacks."""
    return base64.b64encode(gzip.compress(canonical_json(value).encode(), mtime=0)).decode("ascii")


def drawing(stem: Path) -> Path | None:
    """Return the file of a figure, the vector graphic where there is one; None when it is not drawn."""
    files = (stem.parent / f"{stem.name}.{suffix}" for suffix in KINDS)
    return next((file for file in files if file.is_file()), None)


def too_large(sizes: Mapping[Named, int], most: int) -> set[Named]:
    """Return what is left out, the largest first, so that all others have `most` bytes together."""
    left_out: set[Named] = set()
    for each in sorted(sizes, key=lambda each: (-sizes[each], str(each))):
        if sum(sizes.values()) - sum(sizes[other] for other in left_out) <= most:
            break
        left_out.add(each)
    return left_out


def picture(file: Path, beside: bool) -> dict[str, str]:
    """Return a figure as a `data:` address, or where it lies as seen from the page if it stays `beside` it."""
    suffix = file.suffix.removeprefix(".")
    uri = "" if beside else data_uri(KINDS[suffix], file.read_bytes())
    return {"uri": uri, "suffix": suffix, "file": f"../{file.parent.name}/{file.name}"}


def artifact_view(
    entry: dict[str, Any], study: str, artifact: dict[str, Any], results: Path, beside: Set[Path] = frozenset()
) -> dict[str, Any]:
    """Return what the page shows of a table or figure; `data` is None when it is not drawn.

    Figures whose file is one of `beside` are named and not held.
    """
    path = results / study / f"{artifact['id']}.csv"
    rows = read_csv(path) if path.is_file() else None
    cells = read_cells(path) if rows is not None else None
    figure = artifact["kind"] == "figure"
    file = drawing(path.with_suffix("")) if figure else None
    made = f"snakemake results/{entry['scale']}/{study}/{artifact['id']}"
    return {
        **artifact,
        "anchor": f"{study}-{artifact['id']}",
        "figure": picture(file, file in beside) if file else None,
        "cells": wide(cells) if cells else None,
        "counts": cell_counts(cells) if cells else None,
        "data": None if rows is None else {"columns": list(rows[0]) if rows else [], "rows": rows[:MAX_DATA_ROWS]},
        "rows": len(rows or []),
        "uri": data_uri("text/csv;charset=utf-8", path.read_bytes()) if rows is not None else None,
        "commands": [
            f"{made}.csv --config scale={entry['scale']}",
            f"dvc repro {artifact['kind']}@{study}-{artifact['id']}",
        ],
        "pdf": f"{made}.pdf --config scale={entry['scale']}" if figure else None,
        "pdf_file": f"../{study}/{artifact['id']}.pdf" if path.with_suffix(".pdf").is_file() else None,
    }


def study_views(entry: dict[str, Any], results: Path) -> Iterator[dict[str, Any]]:
    """Yield what the page shows of each study."""
    figures = [(name, each["id"]) for name, own in entry["studies"].items() for each in own["artifacts"]]
    files = filter(None, (drawing(results / name / key) for name, key in figures))
    beside = too_large({file: file.stat().st_size for file in files}, MAX_PICTURES)
    for name, study in entry["studies"].items():
        artifacts = [artifact_view(entry, name, artifact, results, beside) for artifact in study["artifacts"]]
        yield {**study, "id": name, "short": short(study["title"], name), "artifacts": artifacts}


def short(title: str, study: str) -> str:
    """Return the name of a study's method where its title begins with it, else the study's id in words."""
    method, colon, _ = title.partition(":")
    return method if colon and " " not in method else study.replace("_", " ").capitalize()
