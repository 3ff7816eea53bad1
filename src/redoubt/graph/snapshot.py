"""Snapshot of the sources: a copy of rules, config and code made at the start of a run, used by all of its jobs.

A job that starts hours later, perhaps on another machine, would otherwise read files edited since, and one run would
mix two versions. Copies lie in `.snakemake/sources/<digest>`, so unchanged sources are copied once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from redoubt.graph import code as imports
from redoubt.graph.project import sources

STORE = Path(".snakemake/sources")
KEEP_SECONDS = 90 * 86400.0  # longer than any job waits in a queue
ROOT = imports.SOURCE.parent


def _files(root: Path) -> Iterator[tuple[Path, Path]]:
    for place, folder in sources(root).items():
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield Path(place, path.relative_to(folder)), path


def freeze(root: Path = Path()) -> Path:
    """Copy the sources of a run in `root` and return the copy's folder, relative to the working directory.

    The jobs of this run find the copy through PYTHONPATH. Copies that no run has used for 90 days are removed.
    """
    digest = hashlib.sha256()
    contents = {place: path.read_bytes() for place, path in _files(root)}
    for path, content in contents.items():
        digest.update(f"{path.as_posix()}\0{len(content)}\0".encode() + content)
    copy = STORE / digest.hexdigest()[:16]
    if not copy.exists():
        STORE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=STORE) as part:
            for path, content in contents.items():
                (part / path).parent.mkdir(parents=True, exist_ok=True)
                (part / path).write_bytes(content)
            try:
                Path(part).rename(copy)
            except OSError:  # another run made the same copy in the meantime
                assert copy.is_dir()
    os.utime(copy)
    for other in STORE.iterdir():
        if time.time() - other.stat().st_mtime > KEEP_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(copy / "src"), inherited]))
    return copy
