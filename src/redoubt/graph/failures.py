"""Why jobs failed, for the end of a run: under `--quiet rules` Snakemake itself shows no log of a failed job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def causes(failed: Iterable[Any]) -> str:
    """Return the last `error:` line of every failed job, one job a line.

    Args:
        failed: jobs and groups of jobs, as Snakemake's scheduler keeps them.
    """
    jobs = [job for item in failed for job in (item.jobs if item.is_group() else [item])]
    lines = sorted({f"  {job.rule.name}: {_cause([Path(log) for log in job.log])}" for job in jobs})
    return "\n".join([f"{len(lines)} failed {'job' if len(lines) == 1 else 'jobs'}:", *lines])


def _cause(logs: list[Path]) -> str:
    texts = [log.read_text(errors="replace") for log in logs if log.is_file()]  # in the encoding of the steps
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    last = (errors or lines or ["no message; it was killed, or did not start"])[-1]
    return f"{last} ({', '.join(map(str, logs)) or 'no log'})"
