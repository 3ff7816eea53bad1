"""Print how a finished run ended, on one screen; the last line of `make demo`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import cli
from redoubt.report.summary import summary
from redoubt.study import catalog


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="demo", help="scale of the finished run")
    options = parser.parse_args(argv)
    entry = catalog.load(".", {"scale": options.scale}).report_entry()
    print(summary(entry, Path("results") / options.scale))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
