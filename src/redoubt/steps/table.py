"""Draw a table; reads finished rows of attacks, writes its cells as CSV and the table as Markdown."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.artifacts._drawing import data, draw
from redoubt.errors import cli
from redoubt.files import parse_json, write_all


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="the artifact's entry as JSON, as the workflow passes it")
    parser.add_argument("--data", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--text", type=Path, required=True, help="Markdown file to write")
    options = parser.parse_args(argv)
    drawing = draw(parse_json(options.entry, "--entry"))
    assert drawing.text is not None, "a table has a text"
    write_all({options.text: drawing.text, options.data: data(drawing)})
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
