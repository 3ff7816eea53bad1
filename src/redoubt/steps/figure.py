"""Draw a figure; reads histories and finished rows, writes the plotted numbers as CSV and the figure as svg and png."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.artifacts._drawing import data, draw
from redoubt.artifacts._style import picture
from redoubt.errors import cli
from redoubt.files import parse_json, write_all


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="the artifact's entry as JSON, as the workflow passes it")
    parser.add_argument("--data", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--svg", type=Path, required=True, help="vector graphic to write")
    parser.add_argument("--png", type=Path, required=True, help="pixel graphic to write")
    options = parser.parse_args(argv)
    drawing = draw(parse_json(options.entry, "--entry"))
    write_all(
        {
            options.svg: picture(drawing, "svg"),
            options.png: picture(drawing, "png"),
            options.data: data(drawing),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
