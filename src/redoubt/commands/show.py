"""Open the report of a scale in a browser, and print where it is."""

import os
import sys
import webbrowser
from argparse import ArgumentParser, Namespace
from pathlib import Path

from redoubt.commands import _project
from redoubt.errors import RedoubtError
from redoubt.graph.project import root_above
from redoubt.layout import report_file


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    _project.add_scale(parser)
    parser.add_argument("--print", action="store_true", dest="only", help="print the path, and open nothing")


def run(options: Namespace) -> int:
    """Print the path of the report, and open it where there is a screen.

    Raises:
        RedoubtError: there is no report yet.
    """
    root = root_above(Path.cwd())
    page = root / report_file(scale := _project.scale_of(options, root))
    if not page.is_file():
        raise RedoubtError(f"{page}: no report yet; `redoubt run --scale {scale}` makes it")
    print(page)
    if not options.only and has_screen():
        webbrowser.open(page.as_uri())
    return 0


def has_screen() -> bool:
    """Tell whether a browser could be seen; without a screen one in the terminal would take it over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
