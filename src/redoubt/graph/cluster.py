"""Jobs in the queue of a SLURM cluster: cancel those of a killed run, and keep polling those of unknown status."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError

PATIENCE_SECONDS = 120.0  # SLURM sends SIGKILL some 30 s after SIGTERM
LOCKS = ".snakemake/locks"


def _queued(folder: Path) -> list[str]:
    """Return the ids of queued jobs that a run in `folder` submitted; their comments name their rules."""
    command = ["squeue", "--noheader", "--format=%i|%Z|%k"]
    encoding = sys.getfilesystemencoding()  # as Python reads names of folders
    asked = subprocess.run(command, capture_output=True, check=False, encoding=encoding, errors="surrogateescape")
    if asked.returncode:
        raise RedoubtError(f"squeue: {asked.stderr.strip() or 'no message'}; are there jobs of an earlier run?")
    lines = (line.split("|", 2) for line in asked.stdout.splitlines())
    return [job for job, place, comment in lines if Path(place) == folder and comment.startswith("rule_")]


def cancel_leftovers(folder: Path) -> list[str]:
    """Cancel the queued jobs of a killed run, wait until they have ended, and return their ids.

    Otherwise, two jobs would write the same files. Call this after the folder is locked and before any job is
    submitted: a second lock belongs to another run, whose jobs are left alone.

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
            raise RedoubtError(f"jobs {', '.join(remaining)} of an earlier run do not end; cancel them with scancel")
        time.sleep(1)
    return left


def keep_sight_of_jobs(executor: Any) -> None:
    """Make an executor poll again the jobs whose status is unknown.

    The SLURM executor (snakemake-executor-plugin-slurm 2.8) yields no job if the scheduler does not answer in
    five attempts, some 45 s. Snakemake treats such jobs as neither running nor finished and waits indefinitely.

    Args:
        executor: a class with the methods of `snakemake_interface_executor_plugins`' RemoteExecutor.
    """
    check, success, failure = executor.check_active_jobs, executor.report_job_success, executor.report_job_error

    async def check_active_jobs(self: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        self.settled, running = set(), set()
        async for job in check(self, active_jobs):
            running.add(id(job))
            yield job
        for job in active_jobs:
            if id(job) not in running | self.settled:
                yield job

    def report_job_success(self: Any, job: Any) -> None:
        vars(self).setdefault("settled", set()).add(id(job))
        success(self, job)

    def report_job_error(self: Any, job: Any, *arguments: Any, **options: Any) -> None:
        vars(self).setdefault("settled", set()).add(id(job))
        failure(self, job, *arguments, **options)

    executor.check_active_jobs = check_active_jobs
    executor.report_job_success = report_job_success
    executor.report_job_error = report_job_error
