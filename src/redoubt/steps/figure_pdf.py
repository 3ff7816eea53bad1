"""Draw a figure as PDF, which only who asks for it waits for; reads what the figure was drawn from."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.artifacts._drawing import draw
from redoubt.artifacts._style import picture
from redoubt.errors import cli
from redoubt.files import parse_json, write_all


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="the artifact's entry as JSON, as the workflow passes it")
    parser.add_argument("--out", type=Path, required=True, help="PDF file to write, the same bytes every time")
    options = parser.parse_args(argv)
    write_all({options.out: picture(draw(parse_json(options.entry, "--entry")), "pdf")})
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
