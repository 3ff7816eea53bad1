"""The workflow on a real SLURM: the same results as here, and faults that it survives."""

import os
import re
import shutil
import signal
import time

import pytest
from redoubt_tree import MODELS, Tree
from slurm import wait_for

LONG = "{learning_rate: 0.01, epochs: 200}"
PARSEVAL = "results/demo/models/digits-mlp-parseval/seed-0"
WEIGHTS = f"{PARSEVAL}/weights.safetensors"


def lengthen(tree):
    """Give one model a training of 200 epochs, each of which ends with a saved state and a rest: 20 s at least."""
    tree.replace(MODELS, "{learning_rate: 0.01}", LONG)


@pytest.fixture(scope="module")
def long_training(here, tmp_path_factory):
    """The bytes of the long training when nothing disturbs it, on this machine."""
    folder = tmp_path_factory.mktemp("long") / "redoubt"
    shutil.copytree(here.folder, folder)
    tree = Tree(folder)
    lengthen(tree)
    tree.snakemake(WEIGHTS)
    return of_training(tree)


def of_training(tree):
    """Return the bytes that the long training ended with."""
    return {name: (tree.folder / PARSEVAL / name).read_bytes() for name in ("weights.safetensors", "history.csv")}


@pytest.fixture
def site(trained):
    """The trained study on the cluster, one of its models to be trained again, for long."""
    lengthen(trained)
    return trained


def begin(site, *arguments):
    """Start a run and return its driver once the long training has saved its state."""
    running = site.start(*(arguments or [WEIGHTS]))
    site.wait(lambda: state(site), running, "a saved state")
    return running


def state(site):
    """Return the saved state of the long training, if there is one."""
    return next((site.folder / "results/.resume").glob("digits-mlp-parseval-*/state.safetensors"), None)


def contents(tree):
    """Return the bytes of all weights, histories, rows, tables and of the scorecard."""
    kinds = ("weights.safetensors", "history.csv", ".parquet", "table-1.csv", "table-2.csv", "scorecard.csv")
    paths = [path for path in (tree.folder / "results/demo").rglob("*") if path.name.endswith(kinds)]
    return {path.relative_to(tree.folder).as_posix(): path.read_bytes() for path in paths}


def step(site, name="train", of="digits-mlp-parseval"):
    """Return the process id of a step that runs for this copy of the project, on this model."""
    module, model = f"redoubt.steps.{name}".encode(), of.encode()
    running = site.processes().items()
    found = (process for process, words in running if module in words and any(model in word for word in words))
    return next(found, None)


def check(site, expected):
    """The results are those of the undisturbed run, and the training was taken up, not begun again."""
    assert of_training(site) == expected
    (done,) = re.findall(
        r"resumed after step (\d+) of 800", site.read("logs/demo/defend/digits-mlp-parseval/seed-0.log")
    )
    assert int(done) > 0
    wait_for(lambda: not site.cluster.jobs(), 30, "an empty queue")


def test_results_are_those_of_this_machine(fresh, here):
    site = fresh
    said = site.finish(site.start())
    assert contents(site) == contents(here)
    assert not site.planned(), "what jobs on the cluster made is up to date here"
    # download, 2 preprocessings, 1 + 3 models, 5 attacks, scorecard, report; the 2 tables and the figure are one job
    assert site.jobs() == 15, said[-3000:]
    logs = {path.parts[-3] for path in (site.folder / "logs/slurm").rglob("*.log")}
    assert {"rule_pretrain", "rule_defend", "rule_attack"} <= logs
    assert "digits-mlp-clean" in site.read("logs/demo/defend/digits-mlp-clean/seed-0.log")


def test_a_killed_step_goes_on_from_its_own_state(site, long_training):
    running = begin(site)
    os.kill(step(site), signal.SIGKILL)
    assert "Trying to restart job" in site.finish(running)
    check(site, long_training)


def test_a_node_that_goes_down_and_comes_back(site, long_training):
    running = begin(site)
    site.cluster.run("scontrol", "update", "nodename=redoubt", "state=down", "reason=test")
    site.wait(lambda: step(site) is None, running, "the end of the step")
    ((job, *_),) = site.cluster.jobs()
    site.cluster.run("scontrol", "update", "nodename=redoubt", "state=resume")
    said = site.finish(running)
    assert site.cluster.restarts(job) == 1 and "Trying to restart job" not in said, "SLURM queues it again by itself"
    check(site, long_training)


def test_a_scheduler_that_is_restarted(site, long_training):
    running = begin(site)
    site.cluster.stop_controller()
    assert step(site) is not None, "jobs do not need the scheduler"
    time.sleep(45)  # the driver asks again within 32 s, and squeue gives up after 9
    assert running.poll() is None, site.said()
    site.cluster.start_controller()
    site.finish(running)
    assert of_training(site) == long_training


def test_a_driver_that_is_killed_and_started_again(site, long_training):
    running = begin(site)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    ((left, *_),) = site.cluster.jobs()
    site.finish(site.start("--unlock"))
    said = site.finish(site.start(WEIGHTS))
    assert f"cancelled jobs of an earlier run: {left}\n" in said
    check(site, long_training)


def test_a_second_driver_says_so_and_touches_nothing(site, long_training):
    running = begin(site)
    worker, before = step(site), site.cluster.jobs()
    records = {path: path.stat().st_mtime_ns for path in (site.folder / ".snakemake/incomplete").rglob("*")}
    second = site.start(WEIGHTS)
    assert second.wait(300) != 0
    assert "Directory cannot be locked" in site.said()
    assert (step(site), site.cluster.jobs()) == (worker, before)
    assert records == {path: path.stat().st_mtime_ns for path in (site.folder / ".snakemake/incomplete").rglob("*")}
    assert running.poll() is None
    site.finish(running)
    assert of_training(site) == long_training


def test_a_job_out_of_memory_is_retried_with_more(trained):
    site = trained
    rows = "results/demo/attacks/digits-mlp-clean/seed-0/deepfool.parquet"
    expected = (site.folder / rows).read_bytes()
    (site.folder / rows).unlink()
    site.replace("workflow/rules/attacks.smk", "mem_mb=growing(8000)", "mem_mb=growing(200)")
    said = site.finish(site.start(rows))
    assert list(dict.fromkeys(re.findall(r"mem_mb=(\d+)", said)))[:2] == ["200", "400"], said[-3000:]
    assert "Trying to restart job" in said
    assert (site.folder / rows).read_bytes() == expected


def test_a_job_out_of_time_is_retried_with_more(site, long_training):
    site.replace("src/redoubt/training/loop.py", "sleep(0.1)", "sleep(0.6)")  # 2 minutes of rest
    # SLURM looks every 30 s, so a limit of 1 minute ends a job after a minute and a half at the latest.
    site.replace("workflow/rules/models.smk", "runtime=growing(1440)", "runtime=growing(1)", count=2)
    said = site.finish(begin(site))
    asked = re.findall(r"rule defend:\n.*?runtime=(\d+)", said, re.DOTALL)
    assert asked[:2] == ["1", "2"], said[-3000:]
    assert "TIMEOUT" in said
    assert "resumed after step" in site.read("logs/demo/defend/digits-mlp-parseval/seed-0.log")
    assert of_training(site) == long_training


def test_sources_changed_while_jobs_are_queued_are_not_mixed_in(site, long_training):
    table, printed = "results/demo/deepdefense/table-1.csv", "config/published/deepdefense.csv"
    running = begin(site, table)
    for name in ("src/redoubt/steps/attack.py", "workflow/rules/attacks.smk", "config/config.yaml", MODELS):
        site.write(name, "broken: [")
    site.replace(printed, "98.31", "12.34")
    (site.folder / "src/redoubt/attacks/deepfool.py").unlink()
    said = site.finish(running)
    assert "Trying to restart job" not in said
    assert of_training(site) == long_training
    assert "0.9831" in site.read(table) and "0.1234" not in site.read(table)


def test_a_site_sets_partition_account_and_gpus(fresh):
    site = fresh
    asked = {"slurm-no-account: true\n": "", "slurm_partition: long": "slurm_partition: short\n  slurm_account: lab"}
    for old, new in asked.items():
        site.replace("site/config.yaml", old, new)
    site.write(
        "site/config.yaml",
        site.read("site/config.yaml") + "set-resources: {pretrain: {gpu: 1}, defend: {gres: gpu:1}}\n",
    )
    said = site.finish(site.start("--verbose", "--", f"{PARSEVAL}/weights.safetensors"))
    calls = dict(re.findall(r"sbatch call: (.*?--comment rule_([a-z]+).*?) --wrap", said)[::-1])
    calls = {rule: call for call, rule in calls.items()}
    assert set(calls) == {"download", "prepare", "pretrain", "defend"}
    assert all(" -p short " in call and " -A lab " in call for call in calls.values()), calls
    assert ["gpu" in calls[rule] for rule in calls] == [rule in ("pretrain", "defend") for rule in calls], calls
    assert "--gpus=1" in calls["pretrain"] and "--gres=gpu:1" in calls["defend"]
