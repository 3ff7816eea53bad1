"""Write the report: one page that needs no network, the same as data, and a summary of each paper.

Or print a summary of the run, of one screen.

Its entry outgrows a command line, so in the workflow this step reads the config itself.

Reads scorecard.csv, claims.csv, what `make worlds` has written and the files of all artifacts, run by hand of those
that are drawn. What only a panel shows is no input, so that a page is drawn without weights: model.json of the models
and rows of the attacks that are there, and how long jobs took, from Snakemake's benchmark files.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import cli
from redoubt.files import json_text, parse_json, write_all
from redoubt.graph.jobs import Jobs
from redoubt.judging import decided, held
from redoubt.judging.cells import Cell
from redoubt.judging.results import results
from redoubt.judging.tables import read_records
from redoubt.report import origins, reproducibility
from redoubt.report.page import page
from redoubt.report.summary import summary
from redoubt.study import catalog


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", help="the catalog's report entry as JSON; that of the config when absent")
    parser.add_argument("--config", default="{}", help="changes of config/config.yaml, as JSON")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds config/")
    parser.add_argument("--results", type=Path, required=True, help="folder of the scale's results")
    parser.add_argument("--out", type=Path, help="HTML file to write; report/index.html in the results by default")
    parser.add_argument("--record", type=Path, help="JSON file to write, without --entry: the numbers as data")
    parser.add_argument("--papers", type=Path, help="Markdown file to write, without --entry: a summary of each paper")
    parser.add_argument("--summary", action="store_true", help="print a summary of one screen and write nothing")
    options = parser.parse_args(argv)
    found = None
    if options.entry is None:
        found = catalog.load(options.root, parse_json(options.config, "--config"), results=Path())
    entry = parse_json(options.entry, "--entry") if found is None else found.report_entry()
    if options.summary:
        print(summary(entry, options.results), end="")
        return 0
    worlds = held.read(options.root, entry["studies"])
    behind = {} if found is None else origins.origins(Jobs(found))
    made = [job for run in behind.get("runs", {}).values() for job in run["jobs"]]
    seconds = origins.seconds(Path("logs/benchmarks", entry["scale"]), made)
    cells = read_records(options.results / "scorecard.csv", Cell)
    claims = decided.read(options.results / "claims.csv")
    shown = page(entry, options.results, worlds, behind, seconds, cells, claims)
    texts = {options.out or options.results / "report" / "index.html": shown}
    if found is not None and (options.record or options.papers):
        record = results(found, options.results, cells, claims)
        both = {
            options.record: json_text(record.model_dump(mode="json")),
            options.papers: reproducibility.pages(record),
        }
        texts |= {path: text for path, text in both.items() if path is not None}
    write_all(texts)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
