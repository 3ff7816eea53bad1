"""Write the report: one page that needs no network; or print its one-screen summary.

Its entry outgrows a command line, so in the workflow this step reads the config itself.

Reads scorecard.csv, claims.csv, what `make worlds` has written, and the files of all artifacts; run by hand, of those
that are drawn.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import cli
from redoubt.files import parse_json, write_text
from redoubt.judging import held
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
    parser.add_argument("--summary", action="store_true", help="print a summary of one screen and write nothing")
    options = parser.parse_args(argv)
    if options.entry is None:
        entry = catalog.load(options.root, parse_json(options.config, "--config"), results=Path()).report_entry()
    else:
        entry = parse_json(options.entry, "--entry")
    if options.summary:
        print(summary(entry, options.results), end="")
    else:
        worlds = held.read(options.root, entry["studies"])
        write_text(options.out or options.results / "report" / "index.html", page(entry, options.results, worlds))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
