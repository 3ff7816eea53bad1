"""Print a study as plain entries: every group, `vary` and `like` of its files filled in, as YAML.

What the workflow reads is this, changed by the scale. Without a part, all of models, attacks, artifacts and claims.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from redoubt.errors import RedoubtError, cli
from redoubt.layout import study_file
from redoubt.study.config import PARTS
from redoubt.study.files import read_study

PRINTED = ("models", "attacks", "artifacts", "claims")


def text(root: Path, study: str, parts: Sequence[str]) -> str:
    """Return the entries of some files of a study as one YAML text.

    Raises:
        RedoubtError: there is no such study, or a mistake in it.
    """
    if not (root / study_file(study, "study")).is_file():
        raise RedoubtError(f"there is no {study_file(study, 'study')}")
    keys = [key for part in parts for key in PARTS[part].model_fields]
    data = read_study(root, study).model_dump(by_alias=True, exclude_unset=True, include=set(keys))
    return yaml.safe_dump(_plain({key: data[key] for key in keys if key in data}), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="a folder of config/studies")
    parser.add_argument("part", nargs="?", choices=PRINTED, help="one of its files")
    options = parser.parse_args(argv)
    sys.stdout.write(text(Path(), options.study, [options.part] if options.part else PRINTED))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
