"""Snapshot of the sources: a copy of rules, config and code made at the start of a run, used by all of its jobs.

A job that starts hours later, perhaps on another machine, would otherwise read files edited since, and one run would
mix two versions. Copies lie in `.snakemake/sources/<digest>`, so unchanged sources are copied once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError
from redoubt.graph.code import SOURCE
from redoubt.graph.project import sources
from redoubt.layout import CONFIG
from redoubt.study import outside
from redoubt.study.files import asked

ROOT = SOURCE.parent


def freeze(root: Path = Path(), changes: Mapping[str, Any] | None = None) -> Path:
    """Copy the sources of a run in `root` and return the copy's folder, relative to the working directory.

    The jobs of this run find the copy through PYTHONPATH. What the config, with `changes`, names outside is copied too.
    """
    found = outside.Outside()
    if (root / CONFIG).is_file():
        try:
            found = outside.gathered(root, asked(root, changes or {}), changes or {})
        except RedoubtError as error:
            raise SystemExit("error: " + " ".join(str(error).split())) from None
    copy = outside.copied(sources(root), found)
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(copy / "src"), inherited]))
    return copy
