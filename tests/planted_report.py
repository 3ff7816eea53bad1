"""A small planted run for tests of the report: two tables' worth of cells, a claim, a figure, and hostile text."""

import base64
import csv
import gzip
import json
import re

import pandas as pd

from redoubt.judging.cells import COLUMNS
from redoubt.rows import write_rows as write_parquet

HOSTILE = '<script>alert("x")</script>'
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle id="a" r="4"/></svg>'


def cell(row, column, verdict, published="0.9831", reproduced="0.9790000000000001", **changes):
    values = dict.fromkeys(COLUMNS, "") | {"study": "toy", "artifact": "table-1", "metric": "accuracy", "seeds": "1"}
    numbers = {"difference": "-0.0041", "ci_low": "0.975", "ci_high": "0.9825", "n": "10000"}
    values |= {"row": row, "column": column, "verdict": verdict, "published": published, "reproduced": reproduced}
    return values | numbers | changes


def missing(row, column):
    empty = {"reproduced": "", "difference": "", "ci_low": "", "ci_high": "", "n": "0", "seeds": "0"}
    return cell(row, column, "not-run", reason="imagenet: set data.imagenet", **empty)


CELLS = [
    cell("mlp-reference", "Acc.", "reproduced"),
    cell("mlp-reference", "rho_2", "deviates", "0.111", "0.09", metric="norm(order=l2,relative=true)"),
    cell("mlp-defended", "Acc.", "not-comparable", published="", difference="", reason="the paper prints no number"),
    missing("mlp-defended", "rho_2"),
]
CLAIM = {
    "study": "toy",
    "claim": "claim-1",
    "statement": f"Defended is best {HOSTILE}",
    "where": "section 4",
    "verdict": "fails",
    "published_verdict": "holds",
    "dataset": "all",
    "check": "",
    "here": "fails",
    "evidence": "fails on Toys (1 of 2 checks)",
}
PART = CLAIM | {"dataset": "Toys", "evidence": "1 fail, 1 not run", "adjusted": "0.0002"}
CHECKS = [
    PART
    | {"check": "table-1[a, x] > [b]", "effect": "-0.12345", "p": "0.0001", "adjusted": "0.0002", "n": "10000"}
    | {"runs": "1", "test": "McNemar's test", "evidence": f"0.1 and 0.2 {HOSTILE}"},
    PART | {"check": "table-1[a, y] > 2", "adjusted": "", "here": "not-run", "test": "no data", "evidence": ""},
]
ENTRY = {
    "scale": "demo",
    "stamp": "scale demo: NOT comparable",
    "comparable": False,
    "verdict": {"rate": 0.01, "mean": 0.1},
    "stand_ins": {"mnist": "digits"},
    "changes": ["fewer epochs & images"],
    "missing": ["imagenet: set data.imagenet"],
    "studies": {
        "toy": {
            "title": "Toy: a study",
            "reference": "A. Author, 2018",
            "published": "config/published/toy.csv",
            "artifacts": [
                {
                    "id": "table-1",
                    "kind": "table",
                    "title": "Table 1. Cells",
                    "caption": "All.",
                    "plot": "metric-table",
                },
                {
                    "id": "figure-2",
                    "kind": "figure",
                    "title": "Figure 2. Curves",
                    "caption": "<b>x</b>",
                    "plot": "lines",
                },
                {"id": "figure-3", "kind": "figure", "title": "Figure 3. Undrawn", "caption": "", "plot": "lines"},
            ],
            "claims": {"claim-1": {"basis": "b1"}},
            "deviations": [{"topic": "Norms", "choice": "0-255", "alternatives": ""}],
        }
    },
}


def write_rows(path, rows, columns=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_attacked(path, radii=(0.2, 1 / 3)):
    """Write rows of an attack on three images, once for each value of its sweep."""
    rows = [{"index": n, "label": 7, "success": n > 0, "l2": n / 3, "rho": rho} for n in range(3) for rho in radii]
    frame = pd.DataFrame(rows).replace({"l2": {2 / 3: float("inf")}}).assign(near=[[0.5]] * len(rows))
    write_parquet(frame, path, {"model": "m", "shape": "[1, 28, 28]"})


def held(text, name, attribute="id"):
    """Return data that a page holds for its script."""
    found = re.search(f'<script type="application/gzip" {attribute}="{name}">(.*?)</script>', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(found)))


def write_run(folder):
    """Write the files that the report reads below a folder, and return it."""
    write_rows(folder / "scorecard.csv", CELLS, COLUMNS)
    write_rows(folder / "claims.csv", [CLAIM, PART, *CHECKS], list(CHECKS[0]))
    write_rows(folder / "toy" / "table-1.csv", CELLS, COLUMNS)
    write_rows(folder / "toy" / "figure-2.csv", [{"epoch": "0", "test": "0.5"}, {"epoch": "1", "test": HOSTILE}])
    (folder / "toy" / "figure-2.svg").write_text(SVG)
    return folder
