"""Set every published number beside the reproduced one, and decide the claims.

The checks of all claims are too long for a command line, so this step reads the config itself.

Reads the CSV files of all artifacts and the rows of attacks behind the numbers of claims (run by hand, those that are
there); writes scorecard.csv and claims.csv, and metrics.json, the numbers of both for `dvc metrics`.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redoubt.errors import cli
from redoubt.files import json_text, parse_json, write_all
from redoubt.judging import decided
from redoubt.judging.adapted import Adapted
from redoubt.judging.cells import Cell, read_cells
from redoubt.judging.finished import Finished, Printed
from redoubt.judging.tables import frame
from redoubt.layout import published_file
from redoubt.study import catalog
from redoubt.study.published import read_published


def scorecard(found: catalog.Catalog, results: Path) -> list[Cell]:
    """Return the cells of all tables and judged figures, in the order of the config."""
    cells: list[Cell] = []
    for study, artifact in found.artifacts:
        path = results / study / f"{artifact}.csv"
        if path.exists():  # by hand some are missing: the workflow asks for all of them
            cells += read_cells(path) or []
    return cells


def claims(found: catalog.Catalog, results: Path) -> list[decided.Row]:
    """Return the rows of all claims: what our, the printed and the adaptive numbers say, by dataset and by check."""
    rows: list[decided.Row] = []
    ours = Finished(found, results)
    printed = {study: Printed(read_published(published_file(study), found.sources)) for study in found.studies}
    for (study, key), claim in found.claims.items():
        rows += decided.rows(study, key, claim, ours, printed[study], Adapted(ours))
    return rows


def metrics(cells: list[Cell], rows: list[decided.Row]) -> dict[str, Any]:
    """Return what two commits are compared by: verdicts counted, and our number of every cell by its place."""
    numbers: dict[str, Any] = {}
    for cell in cells:
        if cell.reproduced is not None:
            place = numbers.setdefault(cell.study, {}).setdefault(cell.artifact, {}).setdefault(cell.row, {})
            place[cell.column] = cell.reproduced
    return {
        "cells": numbers,
        "claims": dict(Counter(row.here for row in decided.totals(rows))),
        "claims under strong attacks": dict(Counter(row.adaptive_verdict for row in decided.totals(rows))),
        "verdicts": dict(Counter(cell.verdict for cell in cells if cell.not_counted is None)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="{}", help="changes of config/config.yaml, as JSON")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds config/")
    parser.add_argument("--results", type=Path, required=True, help="folder of the scale's results")
    parser.add_argument("--scorecard", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--claims", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(argv)
    found = catalog.load(options.root, parse_json(options.config, "--config"))
    cells, rows = scorecard(found, options.results), claims(found, options.results)
    texts = {options.scorecard: frame(Cell, cells), options.claims: frame(decided.Row, rows)}
    texts = {path: table.to_csv(index=False, lineterminator="\n") for path, table in texts.items()}
    write_all({**texts, options.metrics: json_text(metrics(cells, rows))})
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
