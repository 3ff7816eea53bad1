"""A SLURM of one node for the session, and copies of the tiny study that run on it."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from redoubt_tree import Tree, environment, tiny_copy
from slurm import DRIVER, PLACES, SITE, Cluster, missing, wait_for


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A running SLURM; stopped, with all of its jobs, at the end."""
    if lacks := missing():
        pytest.fail(f"a SLURM for tests needs {'; '.join(lacks)}", pytrace=False)
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        yield found.start()
    finally:
        daemons = list(found.daemons.values())
        found.stop()
    assert all(daemon.poll() is not None for daemon in daemons) and not PLACES[1].is_symlink()


class Site(Tree):
    """A copy of the project on the cluster."""

    def __init__(self, folder, cluster):
        super().__init__(folder)
        self.cluster = cluster
        self.write("site/config.yaml", SITE)

    def start(self, *arguments):
        """Start a run on the cluster and return its process; its output goes to `driver.log`."""
        with (self.folder / "driver.log").open("a") as log:
            return subprocess.Popen(
                [*DRIVER, *arguments], cwd=self.folder, env=self.cluster.reached_from(environment()),
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def finish(self, running, seconds=900):
        """Wait for a run that is to succeed and return what it said."""
        try:
            running.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            raise AssertionError(f"not done in {seconds} s\n{self.said()}{self.cluster.logs()}") from None
        assert running.returncode == 0, f"{self.said()}{self.logs()}"
        return self.read("driver.log")

    def end(self):
        """End what still runs for this copy: drivers of tests that failed, jobs that SLURM gave up with their node."""
        self.cluster.clear()
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def processes(self):
        """Return what runs for this copy: command lines by process id."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (place / "cwd").readlink() == self.folder:
                    found[int(place.name)] = (place / "cmdline").read_bytes().split(b"\0")
        return found

    def said(self):
        """Return the end of what the driver said."""
        return self.read("driver.log")[-5000:]

    def logs(self):
        """Return the ends of the jobs' logs."""
        paths = sorted((self.folder / "logs").rglob("*.log"))
        return "".join(f"\n--- {path}\n{path.read_text()[-1500:]}" for path in paths)

    def jobs(self):
        """Return how many jobs SLURM was given."""
        return self.read("driver.log").count("has been submitted with SLURM jobid")

    def wait(self, condition, running, what, seconds=300):
        """Wait for a condition while a run goes on, and return its value."""

        def checked():
            value = condition()
            assert value or running.poll() is None, f"{what}: the run has ended\n{self.said()}{self.logs()}"
            return value

        return wait_for(checked, seconds, what)


@pytest.fixture(scope="session")
def tiny_tree(tmp_path_factory):
    """The tiny study, nothing run yet; long trainings rest after each epoch, so that faults find them at work."""
    tree = tiny_copy(tmp_path_factory.mktemp("tiny") / "redoubt")
    rest = "if self.schedule.epochs > 100:\n            time.sleep(0.1)"
    tree.replace(
        "src/redoubt/training/loop.py", "        self._save()\n\n", f"        self._save()\n        {rest}\n\n"
    )
    return tree


@pytest.fixture(scope="session")
def here(tiny_tree, tmp_path_factory):
    """The tiny study after a run on this machine, without the cluster."""
    folder = tmp_path_factory.mktemp("here") / "redoubt"
    shutil.copytree(tiny_tree.folder, folder)
    Tree(folder).snakemake()
    return Tree(folder)


@pytest.fixture
def fresh(tiny_tree, cluster, tmp_path):
    """A fresh copy of the tiny study on the cluster."""
    shutil.copytree(tiny_tree.folder, tmp_path / "redoubt")
    site = Site(tmp_path / "redoubt", cluster)
    yield site
    site.end()


@pytest.fixture
def trained(here, cluster, tmp_path):
    """The tiny study after a run on this machine, now on the cluster."""
    shutil.copytree(here.folder, tmp_path / "redoubt", symlinks=True)
    site = Site(tmp_path / "redoubt", cluster)
    yield site
    site.end()
