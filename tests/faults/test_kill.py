"""A step that is killed and run again ends with the same bytes, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from faulty import NOWHERE, OUTPUTS, Mirror, Pace, Run, contents, forget, temporaries
from redoubt_tree import Tree, environment

TRIALS = 20
LAST = 12  # operations on files: those with which a step publishes what it has made
EARLY = 2  # of them, before the step touches any data
KILLED = ["download", "pretrain", "defend", "attack", "table"]
EXPECTED = "nothing half written; run again, the same bytes and no leftovers"


@pytest.fixture(scope="module")
def mirror():
    """A slow mirror of a small MNIST."""
    with Mirror() as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def victim(finished_study, tmp_path_factory):
    """A copy of the finished small study: what a failed trial leaves of it harms no trial of other files."""
    tree = Tree(tmp_path_factory.mktemp("victim") / "redoubt")
    shutil.copytree(finished_study.folder, tree.folder, symlinks=True)
    return tree


@pytest.fixture(scope="module")
def undisturbed(victim, command, mirror, tmp_path_factory):
    """Function (step) to its command line, its pace, and all results before and after it."""
    mark = tmp_path_factory.mktemp("marks") / "mark"
    commands = {step: command(step).replace(NOWHERE, mirror.url) for step in KILLED}
    paces = {}
    for step, text in commands.items():
        forget(victim, step)
        paces[step] = Pace.measure(victim, text, mark)
    after = contents(victim)
    assert not temporaries(after)

    def find(step):
        before = {name: digest for name, digest in after.items() if name not in OUTPUTS[step]}
        assert len(after) == len(before) + len(OUTPUTS[step])
        return commands[step], paces[step], before, after

    return find


def check_after_kill(tree, step, before, after):
    """Assert that all files under their final names are whole, and say what is kept for the next run."""
    found = contents(tree)
    kept = temporaries(found)
    assert {name: found[name] for name in found if name not in kept}.items() <= after.items()
    assert set(before) <= set(found)
    return kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "number"),
    [
        pytest.param(step, number, marks=pytest.mark.fault("SIGKILL at a random moment", step, EXPECTED))
        for step in KILLED
        for number in range(TRIALS)
    ],
)
def test_killed_at_a_random_moment(step, number, victim, undisturbed, again, mirror, tmp_path, trial):
    command, pace, before, after = undisturbed(step)
    forget(victim, step)
    served = mirror.resumed
    pace.killed(victim, command, tmp_path / "mark", f"{step} {number}", number < EARLY)
    check_after_kill(victim, step, before, after)
    run = again(victim, command)
    assert run.end() == 0, run.log.read_text()
    assert contents(victim) == after
    if "resumed after step" in run.log.read_text() or mirror.resumed > served:
        trial("went on from where they were killed")


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(
            step, marks=pytest.mark.fault("SIGKILL at each operation on a file when publishing", step, EXPECTED)
        )
        for step in ("download", "defend")
    ],
)
def test_killed_at_every_operation_on_a_file(step, victim, undisturbed, again, tmp_path, trial):
    command, _, before, after = undisturbed(step)
    forget(victim, step)
    log = tmp_path / "log"
    Run(victim, command, FAULTS_LOG=log).end()
    operations = log.read_text().splitlines()
    chosen = range(max(1, len(operations) - LAST), len(operations) + 1)  # before, training saves its state and goes on
    for fatal in chosen:
        forget(victim, step)
        assert Run(victim, command, FAULTS_FATAL=fatal).end() in (-signal.SIGKILL, 128 + signal.SIGKILL), operations[
            fatal - 1
        ]
        check_after_kill(victim, step, before, after)
        assert again(victim, command).end() == 0
        assert contents(victim) == after, operations[fatal - 1]
        trial("operations")


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=pytest.mark.fault("SIGKILL of Snakemake with its job", step, EXPECTED))
        for step in KILLED
    ],
)
def test_snakemake_killed_with_its_job(step, victim, undisturbed, mirror, tmp_path):
    _, pace, before, after = undisturbed(step)
    forget(victim, step)
    target, mark = OUTPUTS[step][0], tmp_path / "mark"
    command = ["snakemake", "--cores", "1", "--force", target, "--config", f"data={{mirrors: ['{mirror.url}']}}"]
    running = subprocess.Popen(
        command,
        cwd=victim.folder,
        env={**environment(), "FAULTS_MARK": str(mark)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not mark.exists() and running.poll() is None:
        time.sleep(0.001)
    time.sleep(pace.work / 2)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    check_after_kill(victim, step, before, after)
    victim.snakemake("--unlock")
    victim.run(*(part for part in command if part != "--force"))
    assert contents(victim) == after
