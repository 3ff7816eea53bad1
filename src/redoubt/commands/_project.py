"""What commands that work in a project share."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from redoubt.errors import RedoubtError
from redoubt.graph.project import CONFIG, root_above


def enter() -> Path:
    """Make the project above the working directory the working directory, and return it."""
    root = root_above(Path.cwd())
    os.chdir(root)
    return root


def add_scale(parser: ArgumentParser) -> None:
    """Let a command be told a scale."""
    parser.add_argument("--scale", help=f"demo, laptop, paper...; that of {CONFIG} when absent")


def scale_of(options: Namespace, root: Path) -> str:
    """Return the scale that is asked for, or the project's."""
    if options.scale is not None:
        return str(options.scale)
    from redoubt.study.reading import read_yaml

    try:
        return str(read_yaml(root, CONFIG)["scale"])
    except (KeyError, TypeError):
        raise RedoubtError(f"{CONFIG}: scale: this key is required") from None
