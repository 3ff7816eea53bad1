"""Rounds of Snakemake's scheduler: as many as a run needs."""

from __future__ import annotations

import time
from typing import Any


def one_timer(scheduler: Any) -> None:
    """Let a scheduler have one timer for its next round, not one for each round that it has begun.

    Snakemake 9.27 limits the jobs that it starts in a second, and therefore starts a timer in every round, which begins
    another round. Each finished job thereby adds a round every second until the end: several minutes of CPU in a
    run of 700 jobs.

    Args:
        scheduler: Snakemake's JobScheduler; another version's, without this method, stays as it is.
    """
    later, due = getattr(scheduler, "_schedule_reevalutation", None), 0.0
    if later is None:
        return

    def once(delay: float) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + delay
            later(delay)

    scheduler._schedule_reevalutation = once
