"""Rounds of Snakemake's scheduler."""

import time
from types import SimpleNamespace

from snakemake.scheduling.job_scheduler import JobScheduler

from redoubt.graph import rounds

LATER = "_schedule_reevalutation"


def test_a_scheduler_waits_for_one_round_at_a_time(monkeypatch):
    clock, started = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    scheduler = SimpleNamespace(**{LATER: lambda delay: started.append((clock[0], delay))})
    rounds.one_timer(scheduler)
    for now in (100.0, 100.3, 100.999, 101.0, 101.5, 103.0):
        clock[0] = now
        getattr(scheduler, LATER)(1.0)
    assert started == [(100.0, 1.0), (101.0, 1.0), (103.0, 1.0)]


def test_the_locked_snakemake_has_this_timer_and_one_without_it_is_left_alone():
    assert callable(getattr(JobScheduler, LATER))
    other = SimpleNamespace()
    rounds.one_timer(other)
    assert vars(other) == {}
