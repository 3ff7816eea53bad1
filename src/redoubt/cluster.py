"""Jobs that an earlier run has left in the queue of a SLURM cluster."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from redoubt.errors import RedoubtError

PATIENCE_SECONDS = 120.0  # SLURM sends SIGKILL some 30 s after SIGTERM
LOCKS = ".snakemake/locks"


def _queued(folder: Path) -> list[str]:
    """Return the ids of the jobs that a run in `folder` has in the queue; its comments name their rules."""
    asked = subprocess.run(["squeue", "--noheader", "--format=%i|%Z|%k"], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise RedoubtError(f"squeue: {asked.stderr.strip() or 'no message'}; are there jobs of an earlier run?")
    lines = (line.split("|", 2) for line in asked.stdout.splitlines())
    return [job for job, place, comment in lines if Path(place) == folder and comment.startswith("rule_")]


def cancel_leftovers(folder: Path) -> list[str]:
    """Cancel what a killed run has left in the queue, wait until it is gone, and return the ids.

    When a run that was killed is started again, two jobs would write the same files. To be called by a run that has
    locked the folder but not yet submitted anything: a second lock is that of another run, whose jobs are not ours.

    Args:
        folder: working directory of the run; jobs of other folders are left alone.

    Raises:
        RedoubtError: the queue cannot be read, or the jobs do not end.
    """
    folder = folder.resolve()
    if shutil.which("squeue") is None or len(list((folder / LOCKS).glob("*.output.lock"))) > 1:
        return []
    if not (left := _queued(folder)):
        return []
    subprocess.run(["scancel", *left], capture_output=True, check=False)
    end = time.monotonic() + PATIENCE_SECONDS
    while remaining := _queued(folder):
        if time.monotonic() > end:
            raise RedoubtError(f"jobs {', '.join(remaining)} of an earlier run do not end; scancel them by hand")
        time.sleep(1)
    return left
