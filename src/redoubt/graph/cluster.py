"""Jobs in the queue of a SLURM cluster: what an earlier run has left there, and what a run must not lose sight of."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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


def keep_sight_of_jobs(executor: type) -> None:
    """Make an executor ask again about jobs of which it learned nothing.

    The SLURM executor (snakemake-executor-plugin-slurm 2.8) passes on no job when the scheduler does not answer in
    five attempts, some 45 s. Snakemake takes such jobs for neither running nor ended, and waits for them for ever.

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
