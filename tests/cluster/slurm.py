"""A real SLURM of one node, on this machine: its own key, ports and folder, gone when it is stopped.

    python tests/cluster/slurm.py

installs what is missing for that, where it may, and tries it; otherwise it says in one line what is missing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

PROGRAMS = ("setpriv", "munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
PACKAGES = "slurm-wlm munge"
CANNOT = 3  # exit code where something is missing; any other that is not 0 is a fault of ours
NODE = "redoubt"
PLACES = (Path("/etc/slurm/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))  # where `srun` in a job looks
CONFIGURATION = """\
ClusterName=redoubt
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
ReturnToService=0
SlurmdTimeout=30
KillWait=5
MinJobAge=600
SlurmdParameters=config_overrides
OverTimeLimit=0
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=short Nodes={node} Default=YES MaxTime=INFINITE State=UP
PartitionName=long Nodes={node} MaxTime=INFINITE State=UP
"""

DRIVER = ("snakemake", "--profile", "profiles/slurm", "--profile", "site")
# What a site would put into a profile of its own; statuses are asked for often, for the tests' sake.
SITE = """\
slurm-no-account: true
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 2
slurm-status-attempts: 1
latency-wait: 10
default-resources:
  slurm_partition: long
  mem_mb: 1000
  runtime: 30
"""


def absent_programs() -> list[str]:
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]


def missing() -> list[str]:
    """Return what this machine lacks for a SLURM of its own."""
    _clear_away()
    absent = absent_programs()
    reasons = [f"{', '.join(absent)} (apt-get install {PACKAGES})"] if absent else []
    reasons += [] if os.geteuid() == 0 else ["root"]
    return reasons + [f"a machine without a SLURM of its own ({place} is there)" for place in PLACES if place.exists()]


def _clear_away() -> None:
    """Remove the link to a cluster of ours that was killed."""
    if PLACES[1].is_symlink():
        target = PLACES[1].readlink()
        alive = [path for path in target.parent.glob("*.pid") if _runs(path)]
        if target.name == "slurm.conf" and not alive:
            PLACES[1].unlink()


def _runs(pid_file: Path) -> bool:
    """Tell whether the daemon lives that has written a file with its process id."""
    try:
        os.kill(int(pid_file.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


def _path() -> str:
    return f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> object:
    """Return the first true value of `condition`, asked again and again; fail after some seconds."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return value


class Job(NamedTuple):
    """A job that has ended: seconds of its start and end, and the cores that it took."""

    start: float
    end: float
    cores: int


class Cluster:
    """One node, two partitions; daemons are children of this process, in the foreground."""

    def __init__(self, folder: Path, cpus: int = 2, memory: int = 64000) -> None:
        self.folder, self.cpus = folder, cpus
        self.configuration = folder / "slurm.conf"
        self.daemons: dict[str, subprocess.Popen] = {}
        self.made: list[Path] = []
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname().split(".")[0]
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        facts = {"folder": folder, "host": host, "node": NODE, "cpus": cpus, "memory": memory, **ports}
        (folder / "gres.conf").write_text(f"NodeName={NODE} Name=gpu File=/dev/null\n")  # a GPU in name only
        self.configuration.write_text(CONFIGURATION.format(**facts))

    @property
    def environment(self) -> dict[str, str]:
        """Return what a user's shell needs to reach this cluster."""
        return {"SLURM_CONF": str(self.configuration), "PATH": _path()}

    def reached_from(self, environment: dict[str, str]) -> dict[str, str]:
        """Return an environment whose own programs come first, and that reaches this cluster."""
        path = f"{environment['PATH']}{os.pathsep}{self.environment['PATH']}"
        return {**environment, **self.environment, "PATH": path}

    def start(self) -> Cluster:
        """Start all daemons and wait until the node takes jobs."""
        munge = [f"--{name}={self.folder / file}" for name, file in {
            "key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid",
            "log-file": "munge.log", "seed-file": "munge.seed",
        }.items()]  # fmt: skip
        place = PLACES[1]  # Snakemake hides SLURM_CONF from the `srun` of its jobs
        self.made = [folder for folder in place.parents if not folder.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(self.configuration)
        self._spawn("munged", "--foreground", "--force", *munge)
        wait_for((self.folder / "munge.socket").exists, 20, "munged")
        self.start_controller()
        self._spawn("slurmd", "-D", "-N", NODE)
        wait_for(lambda: self.state().startswith(("idle", "mixed")), 15, "the node")
        return self

    def start_controller(self) -> None:
        """Start the scheduler, which finds its jobs again in its state folder."""
        self._spawn("slurmctld", "-D", "-i")
        wait_for(lambda: self.run("scontrol", "ping", check=False).returncode == 0, 30, "slurmctld")

    def stop_controller(self) -> None:
        """End the scheduler; jobs run on."""
        self._end("slurmctld")

    def clear(self) -> None:
        """Cancel all jobs and wait until they are gone."""
        self.run("scancel", "--user=root", check=False)
        wait_for(lambda: not self.jobs(), 60, "an empty queue")

    def stop(self) -> None:
        """Cancel all jobs and end all daemons, by their process ids."""
        with contextlib.suppress(AssertionError):  # the daemons are to end whatever the jobs do
            self.clear()
        for name in ("slurmd", "slurmctld", "munged"):
            self._end(name)
        PLACES[1].unlink(missing_ok=True)
        for folder in self.made:
            folder.rmdir()

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run one of SLURM's commands."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}{self.logs()}"
        return done

    def state(self) -> str:
        """Return the node's state, such as `idle`."""
        return self.run("sinfo", "-h", "-o", "%T", check=False).stdout.split("\n")[0]

    def jobs(self) -> list[list[str]]:
        """Return id, state, comment and restarts of the jobs that are queued or running."""
        listed = self.run("squeue", "-h", "-o", "%i|%T|%k", check=False).stdout.splitlines()
        return [line.split("|") for line in listed]

    def facts(self, job: str) -> dict[str, str]:
        """Return what SLURM knows of a job that runs, or ended within `MinJobAge`."""
        told = self.run("scontrol", "-o", "show", "job", job).stdout
        return dict(fact.split("=", 1) for fact in told.split() if "=" in fact)

    def restarts(self, job: str) -> int:
        """Return how often SLURM has queued a job again."""
        return int(self.facts(job)["Restarts"])

    def finished(self, job: str) -> Job:
        """Return when a job ran, and on how many cores."""
        facts = self.facts(job)
        start, end = (datetime.fromisoformat(facts[name]).timestamp() for name in ("StartTime", "EndTime"))
        return Job(start, end, int(facts["NumCPUs"]))

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        return "".join(f"\n--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))

    def _spawn(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=_path())
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", program, *arguments],  # none outlives this process
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _end(self, name: str) -> None:
        daemon = self.daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def main() -> int:
    """Install SLURM where it is missing and may be installed; tell what stands in the way."""
    if absent_programs() and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES.split()]):
            done = subprocess.run(
                ["apt-get", "--quiet", *command], env=environment, stdout=subprocess.DEVNULL, check=False
            )
            if done.returncode:
                break  # `missing` tells
    if lacks := missing():
        print(f"error: a SLURM for tests needs {'; '.join(lacks)}", file=sys.stderr)
        return CANNOT
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "slurm")
        try:
            cluster.start()
        except AssertionError as error:
            print(f"error: a SLURM for tests does not start here: {error}{cluster.logs()}", file=sys.stderr)
            return 2
        finally:
            cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
