"""What a campaign does next, what is left of a job, and what is packed for another machine."""

import json
import struct
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from redoubt.cost.estimate import Cost
from redoubt.errors import RedoubtError
from redoubt.graph.jobs import Jobs
from redoubt.study import catalog as catalogs
from redoubt.tools import campaign
from redoubt.tools.pack import pack

ROOT = Path(__file__).resolve().parents[2]


@cache
def jobs():
    return Jobs(catalogs.load(ROOT, {"scale": "demo"}))


def seconds(each=1.0):
    return {job.name: each for job in jobs()}


def test_every_goal_comes_once_in_an_order_of_falling_value_and_the_report_last():
    found = campaign.goals(jobs(), set(), seconds())
    drawn = [job.name for job in jobs().wanted if job.artifact is not None]
    assert sorted(goal.job.name for goal in found) == sorted([*drawn, "report"]) and found[-1].job.name == "report"
    lacks = [job.name for goal in found for job in goal.lacks]
    assert sorted(lacks) == sorted(job.name for job in jobs().wanted)
    place = {name: number for number, name in enumerate(lacks)}
    for job in jobs().wanted:
        assert all(place[jobs().makers[file].name] < place[job.name] for file in job.reads())


def test_the_first_goal_gives_most_printed_numbers_for_its_seconds():
    first = campaign.goals(jobs(), set(), seconds())[0]
    worth = campaign._worth(jobs())
    values = {
        job.name: worth[job.name] / len(jobs().upstream(job)) for job in jobs().wanted if job.artifact is not None
    }
    assert values[first.job.name] == max(values.values()) == first.value
    assert worth["table/deepdefense/table-1"] > 20


def test_what_is_made_is_not_made_again_and_what_is_dear_waits():
    first, second, *_ = campaign.goals(jobs(), set(), seconds())
    made = {job.name for job in first.lacks}
    found = campaign.goals(jobs(), made, seconds())
    assert found[0].job == second.job and not made & {job.name for goal in found for job in goal.lacks}
    dear = campaign.goals(jobs(), set(), {**seconds(), first.job.name: 1e9})
    assert dear[-2].job == first.job
    assert campaign.goals(jobs(), {job.name for job in jobs()}, {}) == []


def test_as_many_goals_as_the_time_allows_and_one_at_least():
    found = campaign.goals(jobs(), set(), seconds())
    three = sum(goal.seconds for goal in found[:3])
    assert campaign.together(found, three) == found[:3]
    assert campaign.together(found, three - 0.5) == found[:2]
    assert campaign.together(found, 0.0) == found[:1]


def test_a_saved_state_shortens_what_is_left(tmp_path):
    here = Jobs(replace(jobs().catalog, root=tmp_path))
    training = next(job for job in here if job.name == "pretrain/mnist-mlp-reference/seed-0")
    attack = next(job for job in here if job.name == "attack/mnist-mlp-reference/seed-0/deepfool")

    def state(name, done):
        header = json.dumps({"__metadata__": {"facts": json.dumps({"done": done}), "sha256": ""}}).encode()
        file = tmp_path / "results/.resume" / f"{name}-{'0a' * 8}" / "state.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(struct.pack("<Q", len(header)) + header)

    for job in (training, attack):
        assert campaign.left_of(job, here, Cost(100.0, None)) == 100.0
    assert campaign.left_of(training, here, Cost(None, None)) == campaign.UNKNOWN_SECONDS
    untrained = next(job for job in here if job.name == "defend/cifar10-resnet32-peernet-n50-m1/seed-0")
    assert here.catalog.models[untrained.model].entry.training.epochs == 0  # it is another's weights as they are
    assert campaign.left_of(untrained, here, Cost(100.0, None)) == 100.0
    images, schedule = campaign.work(here, training)[1], here.catalog.models["mnist-mlp-reference"].entry.training
    state("mnist-mlp-reference-seed-0", round(0.25 * images / schedule.batch_size))
    assert campaign.left_of(training, here, Cost(100.0, None)) == pytest.approx(75.0, rel=0.02)
    assert campaign.left_of(attack, here, Cost(100.0, None)) == 100.0
    images = campaign.work(here, attack)[1]
    state("mnist-mlp-reference-seed-0-deepfool", images // 2)
    assert campaign.left_of(attack, here, Cost(100.0, None)) == pytest.approx(50.0, rel=0.02)
    assert campaign.left_of(training, here, Cost(100.0, None)) == pytest.approx(75.0, rel=0.02)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with results, a state, and two datasets of 40 and 90 kB."""
    monkeypatch.chdir(tmp_path)
    sizes = {"results/demo/models/a/seed-0/weights.safetensors": 20_000, "results/.resume/b/state.safetensors": 9_000}
    sizes |= {".snakemake/metadata/abc": 10, "results/data/digits/train.safetensors": 40_000}
    sizes |= {"results/data/mnist/train.safetensors": 90_000, "results/data/mnist/preprocessing/mean.safetensors": 500}
    sizes |= {"results/laptop/other": 10, "results/demo/.half-written": 10, "src/code.py": 10}
    for name, size in sizes.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(bytes(size))
    return tmp_path


def packed():
    with tarfile.open("state.tar") as archive:
        return set(archive.getnames())


NEEDED = {
    "results/demo/models/a/seed-0/weights.safetensors",
    "results/.resume/b/state.safetensors",
    ".snakemake/metadata/abc",
    "results/data/mnist/preprocessing/mean.safetensors",
}
DIGITS, MNIST = "results/data/digits/train.safetensors", "results/data/mnist/train.safetensors"


@pytest.fixture
def unlocked(tmp_path, monkeypatch):
    """Commands that a campaign in an empty folder has run."""
    commands = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(campaign.subprocess, "run", lambda command, **_: commands.append(command))
    return commands


def test_what_a_killed_campaign_has_left_locked_is_unlocked(unlocked):
    for _ in range(2):
        with campaign.alone():
            assert campaign.LOCK.read_text()
    assert not unlocked, "both came to their end"
    campaign.LOCK.write_text("running\n")  # as one leaves it that is killed
    with campaign.alone():
        assert unlocked == [["snakemake", "--unlock"]]


def test_there_is_one_campaign_in_a_folder(unlocked):
    with campaign.alone(), pytest.raises(RedoubtError, match="another campaign runs in this folder"), campaign.alone():
        pytest.fail("two campaigns")


def test_results_states_and_datasets_are_packed(folder):
    assert "left out" not in pack(Path("state.tar"), "demo", 1e6)
    assert packed() == NEEDED | {DIGITS, MNIST}


def test_a_dataset_that_does_not_fit_is_left_out_by_its_name(folder):
    assert "left out, and fetched again there: results/data/mnist" in pack(Path("state.tar"), "demo", 100_000)
    assert packed() == NEEDED | {DIGITS} and Path("state.tar").stat().st_size <= 100_000


def test_results_that_do_not_fit_are_refused_by_name(folder):
    with pytest.raises(RedoubtError, match=r"the largest file is results/demo/models/a/seed-0/weights\.safetensors"):
        pack(Path("state.tar"), "demo", 20_000)
    assert not Path("state.tar").exists()


@pytest.mark.parametrize("options", [["--minutes", "-1"], ["--cores", "0"], ["--pack-size", "0"]])
def test_bad_options_are_one_line(options):
    with pytest.raises(RedoubtError, match="campaign: --minutes: 0 or more"):
        campaign.main(options)
