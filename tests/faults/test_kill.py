"""A step that is killed and run again ends with the same bytes, and leaves nothing behind."""

import os
import signal
import subprocess
import time

import pytest
from faulty import NOWHERE, OUTPUTS, Mirror, Pace, Run, contents, forget, temporaries
from redoubt_tree import environment

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
def undisturbed(finished_study, command, mirror, tmp_path_factory):
    """Function (step) to its command line, its pace, and all results before and after it."""
    mark = tmp_path_factory.mktemp("marks") / "mark"
    commands = {step: command(step).replace(NOWHERE, mirror.url) for step in KILLED}
    paces = {}
    for step, text in commands.items():
        forget(finished_study, step)
        paces[step] = Pace.measure(finished_study, text, mark)
    after = contents(finished_study)
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
def test_killed_at_a_random_moment(step, number, finished_study, undisturbed, again, mirror, tmp_path, trial):
    command, pace, before, after = undisturbed(step)
    forget(finished_study, step)
    served = mirror.resumed
    pace.killed(finished_study, command, tmp_path / "mark", f"{step} {number}", number < EARLY)
    check_after_kill(finished_study, step, before, after)
    run = again(finished_study, command)
    assert run.end() == 0, run.log.read_text()
    assert contents(finished_study) == after
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
def test_killed_at_every_operation_on_a_file(step, finished_study, undisturbed, again, tmp_path, trial):
    command, _, before, after = undisturbed(step)
    forget(finished_study, step)
    log = tmp_path / "log"
    Run(finished_study, command, FAULTS_LOG=log).end()
    operations = log.read_text().splitlines()
    chosen = range(max(1, len(operations) - LAST), len(operations) + 1)  # before, training saves its state and goes on
    for fatal in chosen:
        forget(finished_study, step)
        assert Run(finished_study, command, FAULTS_FATAL=fatal).end() in (-signal.SIGKILL, 128 + signal.SIGKILL), (
            operations[fatal - 1]
        )
        check_after_kill(finished_study, step, before, after)
        assert again(finished_study, command).end() == 0
        assert contents(finished_study) == after, operations[fatal - 1]
        trial("operations")


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=pytest.mark.fault("SIGKILL of Snakemake with its job", step, EXPECTED))
        for step in KILLED
    ],
)
def test_snakemake_killed_with_its_job(step, finished_study, undisturbed, mirror, tmp_path):
    _, pace, before, after = undisturbed(step)
    forget(finished_study, step)
    target, mark = OUTPUTS[step][0], tmp_path / "mark"
    command = ["snakemake", "--cores", "1", "--force", target, "--config", f"data={{mirrors: ['{mirror.url}']}}"]
    running = subprocess.Popen(
        command,
        cwd=finished_study.folder,
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
    check_after_kill(finished_study, step, before, after)
    finished_study.snakemake("--unlock")
    finished_study.run(*(part for part in command if part != "--force"))
    assert contents(finished_study) == after
