"""What the report shows, read from scorecard.csv, claims.csv and the files of all artifacts that are drawn."""

import base64
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError
from redoubt.judging.cells import COLUMNS, shown

CLAIM_COLUMNS = ["study", "claim", "statement", "where", "verdict", "published_verdict", "evidence"]
NUMBERS = ("published", "reproduced", "difference", "ci_low", "ci_high", "n", "seeds")
CELL_VERDICTS = {
    "reproduced": "✓",
    "deviates": "✗",
    "not-comparable": "○",
    "not-run": "–",
}
CLAIM_VERDICTS = {"holds": "✓", "fails": "✗", "not-run": "–"}
HEADINGS = {  # columns of the scorecard: heading, and whether its values are numbers
    "study": ("Study", False),
    "artifact": ("Artifact", False),
    "row": ("Row", False),
    "column": ("Column", False),
    "published": ("Published", True),
    "reproduced": ("Reproduced", True),
    "difference": ("Difference", True),
    "interval": ("95 % interval", True),
    "verdict": ("Verdict", False),
    "n": ("n", True),
    "seeds": ("Seeds", True),
    "reason": ("Reason", False),
}
MAX_DATA_ROWS = 500  # of the numbers behind a figure that the page lists; the download has all


# -- reading ----------------------------------------------------------------------------------------------------------


def read_csv(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a CSV file, every value as it is spelt there.

    Raises:
        RedoubtError: the file is missing or broken, or one of `columns` is not in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows, names = list(reader), list(reader.fieldnames or [])
    except FileNotFoundError:
        raise RedoubtError(f"{path}: no such file; run the step that makes it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RedoubtError(f"{path}: not readable ({error}); delete it and run its step again") from None
    if missing := [name for name in columns if name not in names]:
        raise RedoubtError(f"{path}: column {missing[0]!r} is missing; delete it and run its step again")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise RedoubtError(
                f"{path}: row {number} does not have {len(names)} values; delete it and run its step again"
            )
    return rows


def read_scorecard(path: Path) -> list[dict[str, str]]:
    """Return the cells of the scorecard; numbers stay as they are spelt, and are known to be numbers or empty.

    Raises:
        RedoubtError: the file is missing or broken.
    """
    rows = read_csv(path, COLUMNS)
    for number, row in enumerate(rows, start=1):
        _known(row["verdict"], CELL_VERDICTS, f"{path}: row {number}: verdict")
        for name in NUMBERS:
            if not _is_number(row[name]):
                raise RedoubtError(f"{path}: row {number}: {name}: {row[name]!r} is not a number")
    return rows


def read_claims(path: Path) -> list[dict[str, str]]:
    """Return the decided claims; a file without any is blank.

    Raises:
        RedoubtError: the file is missing or broken.
    """
    if path.is_file() and not path.read_bytes().strip():
        return []
    rows = read_csv(path, CLAIM_COLUMNS)
    for number, row in enumerate(rows, start=1):
        for name in ("verdict", "published_verdict"):
            _known(row[name], CLAIM_VERDICTS, f"{path}: row {number}: {name}")
    return rows


def _known(value: str, known: Iterable[str], place: str) -> None:
    if value not in known:
        raise RedoubtError(f"{place}: {value!r} is not one of {', '.join(known)}")


def _is_number(text: str) -> bool:
    try:
        return not text or math.isfinite(float(text))
    except ValueError:
        return False


# -- cells ------------------------------------------------------------------------------------------------------------


@cache
def _shown(metric: str, text: str) -> str:
    return shown(metric, float(text) if text else None)


def _count(text: str) -> str:
    return f"{float(text):,.0f}".replace(",", "\u202f") if text else "—"


def _signed(metric: str, text: str) -> str:
    value = _shown(metric, text)
    return f"+{value}" if text and float(text) > 0 else value


def cell_view(row: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return what the page shows of a cell: for each of `HEADINGS` the text and the raw value that it is sorted by."""
    metric = row["metric"]
    low, high = (_shown(metric, row[name]) for name in ("ci_low", "ci_high"))
    texts = {name: _shown(metric, row[name]) for name in ("published", "reproduced")}
    texts["difference"] = _signed(metric, row["difference"])
    texts["interval"] = f"{low} – {high}" if row["ci_low"] and row["ci_high"] else "—"
    texts |= {name: _count(row[name]) for name in ("n", "seeds")}
    raw = row | {"interval": row["ci_low"]}
    return {name: {"text": texts.get(name, row.get(name, "")), "raw": raw[name]} for name in HEADINGS}


def counts(
    rows: Iterable[dict[str, str]], verdicts: Iterable[str] = CELL_VERDICTS, key: str = "verdict"
) -> dict[str, int]:
    """Return how many rows have each verdict, in the order of `verdicts`."""
    totals = Counter(row[key] for row in rows)
    return {name: totals[name] for name in verdicts}


def wide(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return the cells of a table as rows and columns, both in the order of the file, and why some were not run."""
    columns = list(dict.fromkeys(row["column"] for row in rows))
    places: dict[str, dict[str, list]] = {}
    for row in rows:
        view = cell_view(row)
        places.setdefault(row["row"], {}).setdefault(row["column"], []).append(view)
    lines = [{"name": name, "cells": [cells.get(column, []) for column in columns]} for name, cells in places.items()]
    reasons = dict.fromkeys(row["reason"] for row in rows if row["verdict"] == "not-run" and row["reason"])
    return {"columns": columns, "lines": lines, "reasons": list(reasons)}


def evidence(text: str) -> dict[str, Any]:
    """Return a claim's evidence as its first sentence and lists: what failed, what was not run, what passed."""
    head, *parts = re.split(r"\. (?=(?:failed|not run|passed): )", text)
    lists = []
    for part in parts:
        label, _, items = part.partition(": ")
        lists.append({"label": label, "items": items.split("; ")})
    return {"head": head, "lists": lists}


# -- artifacts --------------------------------------------------------------------------------------------------------


def data_uri(kind: str, content: bytes) -> str:
    """Return bytes as a `data:` address, so that the page holds them itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture(stem: Path) -> dict[str, str] | None:
    """Return a figure as a `data:` address, the vector graphic where there is one; None when it is not drawn."""
    for suffix, kind in (("svg", "image/svg+xml"), ("png", "image/png")):
        path = stem.parent / f"{stem.name}.{suffix}"
        if path.is_file():
            return {"uri": data_uri(kind, path.read_bytes()), "suffix": suffix}
    return None


def artifact_view(entry: dict[str, Any], study: str, artifact: dict[str, Any], results: Path) -> dict[str, Any]:
    """Return what the page shows of a table or figure; `data` is None when it is not drawn."""
    path = results / study / f"{artifact['id']}.csv"
    rows = read_csv(path) if path.is_file() else None
    judged = bool(rows) and set(COLUMNS) <= set(rows[0])
    if judged:
        rows = read_scorecard(path)
    return {
        **artifact,
        "anchor": f"{study}-{artifact['id']}",
        "figure": picture(path.with_suffix("")) if artifact["kind"] == "figure" else None,
        "cells": wide(rows) if judged else None,
        "counts": counts(rows) if judged else None,
        "data": None if rows is None else {"columns": list(rows[0]) if rows else [], "rows": rows[:MAX_DATA_ROWS]},
        "rows": len(rows or []),
        "uri": data_uri("text/csv;charset=utf-8", path.read_bytes()) if rows is not None else None,
        "commands": [
            f"snakemake results/{entry['scale']}/{study}/{artifact['id']}.csv --config scale={entry['scale']}",
            f"dvc repro {artifact['kind']}@{study}-{artifact['id']}",
        ],
    }


def study_views(entry: dict[str, Any], results: Path) -> Iterator[dict[str, Any]]:
    """Yield what the page shows of each study."""
    for name, study in entry["studies"].items():
        artifacts = [artifact_view(entry, name, artifact, results) for artifact in study["artifacts"]]
        yield {**study, "id": name, "artifacts": artifacts}
