"""Jobs that an earlier run has left in the queue of a SLURM cluster."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from redoubt.errors import RedoubtError

PATIENCE_SECONDS = 120.0  # SLURM sends SIGKILL some 30 s after SIGTERM


def _queued(folder: Path) -> set[str]:
    """Return the ids of queued and running jobs that work in a folder, as Snakemake knows them."""
    asked = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i|%Z"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise RedoubtError(f"squeue: {asked.stderr.strip() or 'no message'}; are there jobs of an earlier run?")
    lines = (line.split("|", 1) for line in asked.stdout.splitlines())
    return {job for job, place in lines if Path(place) == folder}


def cancel(jobs: Iterable[str], folder: Path) -> list[str]:
    """Cancel those of some jobs that are still in the queue, wait until they are gone, and return their ids.

    A run that was killed leaves its jobs behind; when it is started again, two jobs would write the same files.

    Args:
        jobs: ids that an earlier run of this folder was given by the cluster.
        folder: working directory; jobs of other folders, whatever their ids, are left alone.

    Raises:
        RedoubtError: the queue cannot be read, or the jobs do not end.
    """
    wanted, folder = set(jobs), folder.resolve()
    if not wanted or shutil.which("squeue") is None:
        return []
    if not (left := sorted(wanted & _queued(folder))):
        return []
    subprocess.run(["scancel", *left], capture_output=True, check=False)
    end = time.monotonic() + PATIENCE_SECONDS
    while remaining := wanted & _queued(folder):
        if time.monotonic() > end:
            raise RedoubtError(
                f"jobs {', '.join(sorted(remaining))} of an earlier run do not end; scancel them by hand"
            )
        time.sleep(1)
    return left
