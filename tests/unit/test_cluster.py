"""What a run does about its jobs on a cluster that needs no cluster to be seen."""

import asyncio
from types import SimpleNamespace

import pytest

from redoubt.graph.cluster import keep_sight_of_jobs


@pytest.fixture
def executor():
    """An executor that asks `states`, by job; None is a scheduler that does not answer."""

    class Executor:
        def __init__(self):
            self.reported, self.states = [], {}

        def report_job_success(self, job):
            self.reported.append((job.name, "done"))

        def report_job_error(self, job, msg=None, **kwargs):
            self.reported.append((job.name, msg))

        async def check_active_jobs(self, active_jobs):
            for job in active_jobs if self.states is not None else []:
                match self.states[job.name]:
                    case "running":
                        yield job
                    case "done":
                        self.report_job_success(job)
                    case why:
                        self.report_job_error(job, msg=why)

    keep_sight_of_jobs(Executor)
    return Executor()


def left(executor, jobs):
    """Return the names of the jobs that are still to be asked about."""

    async def ask():
        return [job.name async for job in executor.check_active_jobs(jobs)]

    return asyncio.run(ask())


def test_jobs_stay_when_the_scheduler_does_not_answer(executor):
    jobs = [SimpleNamespace(name=name) for name in "abc"]
    executor.report_job_error(SimpleNamespace(name="d"), msg="not submitted")
    executor.states = None
    assert left(executor, jobs) == ["a", "b", "c"]
    executor.states = {"a": "running", "b": "done", "c": "out of time"}
    assert left(executor, jobs) == ["a"]
    assert executor.reported == [("d", "not submitted"), ("b", "done"), ("c", "out of time")]
    executor.states = None
    assert left(executor, jobs[:1]) == ["a"]
