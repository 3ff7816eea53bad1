"""`make plan`: jobs, sums and gaps, from rates made up here."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest

from redoubt.cost import estimate
from redoubt.cost import learned as learning
from redoubt.graph.jobs import NAMES, Jobs
from redoubt.study import catalog as catalogs
from redoubt.study.entries.attack import Select
from redoubt.tools import plan as cost

ROOT = Path(__file__).resolve().parents[2]
SPEED = {"step": 2.0, "prepare": 0.5, "forward": 0.001, "backward": 0.003, "bytes": 1000.0}
PASSES = {
    "fixed": {"forward": 0.0, "backward": 0.0, "rows": 0.0},
    "image": {"forward": 10.0, "backward": 4.0, "rows": 3.0},
    "crafting": {"forward": 7.0, "backward": 2.0, "rows": 0.0},
}
TRACKED = 10 * 0.001 + 4 * 0.003


@cache
def parsed(scale, mirror):
    return catalogs.load(ROOT, {"scale": scale}, {"REDOUBT_DATA_MIRROR": mirror})


@pytest.fixture
def load(tmp_path):
    """Function (scale, mirror) to jobs whose results lie in an empty folder; all data are available by default."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return lambda scale="paper", mirror="official": Jobs(replace(parsed(scale, mirror), root=tmp_path))


def rates_of(found):
    """Return one speed for every model, and one number of passes for every attack."""
    keys = cost.works(found)
    kinds = {"start": 5.0, "model": SPEED, "attack": PASSES}
    return {key: kinds[key.split(" ", 1)[0]] for key in keys}


def costs_of(found, rates=None):
    rates = rates_of(found) if rates is None else rates
    return {job.name: estimate.cost(found, job, rates) for job in found.wanted}


def test_training_costs_its_steps_and_its_looks_at_test_images(load):
    costs = costs_of(load())
    # 20 epochs of 600 steps; 21 looks at 10 000 images, with a DeepFool that measures rho_2
    expected = 5.0 + 60_000 * 0.5 + 20 * 600 * 2.0 + 21 * 10_000 * 0.001
    assert costs["pretrain/mnist-mlp-reference/seed-0"].seconds == pytest.approx(expected)
    # 5 epochs, each look with the DeepFool that measures rho_2
    expected = 5.0 + 60_000 * 0.5 + 5 * 600 * 2.0 + 6 * 10_000 * (0.001 + TRACKED)
    assert costs["defend/mnist-mlp-deepdefense/seed-0"].seconds == pytest.approx(expected)
    assert costs["defend/mnist-mlp-deepdefense/seed-0"].bytes == 1000.0


def test_an_attack_costs_its_passes(load):
    costs = costs_of(load())
    assert costs["attack/mnist-mlp-reference/seed-0/deepfool"].seconds == pytest.approx(5.0 + 10_000 * TRACKED)
    expected = 5.0 + 10_000 * TRACKED + 10_000 * (7 * 0.001 + 2 * 0.003)
    assert costs["attack/mnist-lenet5-none/seed-0/universal-mnist"].seconds == pytest.approx(expected)
    pixels = 3 * 4 * 3 * 32 * 32
    kept = costs["attack/cifar10-resnet32-none/seed-0/fgsm-examples"]
    assert kept.bytes == 24 * 3 * (estimate.ROW_BYTES + pixels)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ({"images": None, "label": None}, 450),
        ({"images": 100, "label": None}, 100),
        ({"images": 500, "label": None}, 450),
        ({"images": None, "label": 1}, 45),
        ({"images": 1, "label": 1}, 1),
        ({"images": None, "label": None, "not_label": 3}, 405),
    ],
)
def test_images_that_an_attack_selects(select, expected):
    assert estimate.selected(Select(**select), 450, 10) == expected


def test_the_table_adds_up(load):
    found = load("demo")
    page, jobs = cost.report(found, rates := rates_of(found), {}), found.wanted
    costs = [estimate.cost(found, job, rates) for job in jobs]
    rows = {line.split()[0]: line.split()[1:] for line in page.splitlines() if re.match(r"\w+ +\d+ +\d+ ", line)}
    assert list(rows) == [*NAMES, "all"]
    assert sum(int(rows[step][0]) for step in NAMES) == int(rows["all"][0]) == len(jobs)
    assert rows["all"][2] == cost.hours(sum(one.seconds for one in costs))
    assert rows["attack"][2] == cost.hours(
        sum(one.seconds for job, one in zip(jobs, costs, strict=True) if job.step == "attack")
    )
    assert "unknown" in rows["all"] and "no GPU here" in page
    assert "Not known" not in page and len(page.splitlines()) < 40


def test_what_is_made_costs_nothing_more(load):
    found = load("demo")
    jobs = found.wanted
    own = [job for job in jobs if job.step == "pretrain"]
    rates = rates_of(found)
    costs = {job.name: estimate.cost(found, job, rates) for job in jobs}

    def row():
        """Return jobs, made, hours and disk of the step."""
        page = cost.report(found, rates, {})
        return re.search(r"^pretrain +(\d+) +(\d+) +(\S+) +(\S+ \S+)", page, re.MULTILINE).groups()

    def expected(left):
        seconds, disk = sum(costs[job.name].seconds for job in left), sum(costs[job.name].bytes for job in left)
        return str(len(own)), str(len(own) - len(left)), cost.hours(seconds), cost.size(disk)

    before = row()
    assert before == expected(own)
    for file in own[0].outputs:
        (found.catalog.root / file).parent.mkdir(parents=True, exist_ok=True)
        (found.catalog.root / file).touch()
    assert row() == expected(own[1:]) and row()[2:] != before[2:]
    (found.catalog.root / own[0].outputs[0]).unlink()
    assert row() == before


def test_data_that_cannot_be_had_are_named_and_their_jobs_are_not_counted(load, tmp_path):
    (tmp_path / "mirror").mkdir()
    found = load("paper", str(tmp_path / "mirror"))
    jobs = found.wanted
    assert {job.step for job in jobs} == {"table", "figure", "scorecard", "report"}
    page = cost.report(found, rates_of(found), {})
    for dataset in ("mnist", "cifar10", "cifar100", "imagenet"):
        assert re.search(rf"^  {dataset}: .*: \d+ models$", page, re.MULTILINE), dataset


def test_what_is_not_known_is_named_and_in_no_sum(load):
    found = load("demo")
    jobs, rates = found.wanted, rates_of(found)
    job = next(job for job in jobs if job.attack == "timing")
    key = estimate.attack_key(found.catalog.attacks["timing"], [], job.dataset)
    page = cost.report(found, {**rates, key: None}, {})
    assert f"its passes cannot be counted: {job.name}" in page
    assert re.search(r"^attack .* \+ ", page, re.MULTILINE)
    known = sum(estimate.cost(found, other, rates).seconds for other in jobs if other != job)
    assert f" {cost.hours(known)} " in next(line for line in page.splitlines() if line.startswith("all"))
    found = load("paper")
    paper = cost.report(found, {}, {})
    assert "its speed is that of the connection: download/mnist" in paper
    assert "its model was not measured" in paper


def test_jobs_that_have_run_are_set_beside_their_estimates(load):
    found = load("demo")
    jobs = [job for job in found.wanted if job.step == "defend"][:10]
    costs = {job.name: estimate.Cost(10.0, 0.0) for job in jobs}
    ran = {job.name: 10.0 * (place + 1) for place, job in enumerate(jobs)}
    assert cost.compared(jobs, costs, ran) == "5.5 (2 to 9) of 10"
    assert cost.compared(jobs, costs, {}) == "-"


def written(folder, name, seconds, log=""):
    """Write the benchmark and the log of a finished job of scale demo."""
    for file, text in {
        f"benchmarks/demo/{name}.tsv": f"s\th:m:s\n{seconds}\t0:00:03\n",
        f"demo/{name}.log": log,
    }.items():
        path = folder / "logs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_seconds_of_jobs_are_those_of_whole_runs(load, monkeypatch):
    found = load("demo")
    monkeypatch.chdir(found.catalog.root)
    kept = found.catalog.root / "results/reference/demo/provenance.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"job_seconds": {"defend/a/seed-0": 7.0, "defend/b/seed-0": 8.0}}))
    written(found.catalog.root, "defend/b/seed-0", 3.0, "a line\n")
    written(found.catalog.root, "defend/c/seed-0", 4.0, "resumed after step 25 of 50\nc: done\n")
    assert cost.seconds_here(found.catalog) == {"defend/b/seed-0": 3.0}
    assert cost.reference_seconds(found.catalog) == {"defend/a/seed-0": 7.0, "defend/b/seed-0": 8.0}


def jobs_named(found, *names):
    """Return jobs by their names."""
    every = {job.name: job for job in found}
    return [every[name] for name in names]


def test_a_job_costs_what_finished_ones_of_its_kind_took(load):
    found = load()
    job, *twins = [job for job in found if job.step == "defend" and "mnist-lenet-deepdefense-lambda" in job.model]
    assert learning.work(found, job)[1] == 5 * 60_000  # they differ in a weight of the defense alone
    here = learning.learned(found, dict(zip((twin.name for twin in twins[:3]), (10.0, 20.0, 90.0), strict=True)))
    assert learning.predicted(found, job, {}, here).seconds == pytest.approx(20.0)
    assert learning.predicted(found, job, {}, learning.NONE, here).seconds == pytest.approx(20.0)
    rates = rates_of(found)
    measured = estimate.cost(found, job, rates)
    assert learning.predicted(found, job, rates, here).seconds == pytest.approx(20.0) != measured.seconds
    assert learning.predicted(found, job, rates, learning.NONE, here) == measured
    (other,) = jobs_named(found, "defend/mnist-mlp-deepdefense/seed-0")
    assert learning.predicted(found, other, {}, here).seconds is None


def test_what_finished_jobs_took_is_in_proportion_to_their_images(load):
    small, big = load("demo"), load("paper")
    (few,) = jobs_named(small, "attack/mnist-lenet-reference/seed-0/deepfool")
    here = learning.learned(small, {few.name: 2.0})
    images = learning.work(small, few)[1]
    entry = small.catalog.attacks["deepfool"]
    more = entry.model_copy(update={"select": Select(images=images // 2)})
    small.catalog.attacks["deepfool"] = more
    try:
        assert learning.predicted(small, few, {}, here).seconds == pytest.approx(2.0 * (images // 2) / images)
    finally:
        small.catalog.attacks["deepfool"] = entry
    (whole,) = jobs_named(big, "pretrain/mnist-mlp-reference/seed-0")
    assert learning.work(big, whole)[1] == 20 * 60_000


def test_what_finished_jobs_say_is_not_measured(load):
    found = load()
    (training,) = jobs_named(found, "pretrain/mnist-mlp-reference/seed-0")
    entry = found.catalog.models["mnist-mlp-reference"].entry
    key = estimate.model_key(entry)
    assert key in cost.works(found)
    own = [
        job for job in found.wanted if job.model and estimate.model_key(found.catalog.models[job.model].entry) == key
    ]
    here = learning.learned(found, {job.name: 1.0 for job in own})
    assert key not in cost.works(found, here) and len(cost.works(found, here)) < len(cost.works(found))
    assert key not in cost.works(found, made={job.name for job in own})
    assert key in cost.works(found, learning.learned(found, {training.name: 1.0}))
    assert not cost.works(found, made={job.name for job in found.wanted})


def test_measuring_ends_in_time_and_goes_on_the_next_time(load, monkeypatch, capsys):
    found, calls, clock = load("demo"), [], [0.0]

    def measure(key):
        calls.append(key)
        clock[0] += 10.0
        return 1.0

    monkeypatch.setattr(cost.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(cost, "works", lambda *_: {key: partial(measure, key) for key in "abcdef"})
    assert cost.measured(found, limit=35.0) == dict.fromkeys("abc", 1.0) and calls == ["a", "b", "c"]
    assert "measured 3 of 6 rates" in capsys.readouterr().err
    assert cost.measured(found, limit=35.0) == dict.fromkeys("abcdef", 1.0) and "".join(calls) == "abcdef"


def test_what_most_jobs_need_is_measured_first(load):
    found = load()
    keys = list(cost.works(found))
    starts = [key for key in keys if key.startswith("start")]
    assert keys[-len(starts) :] == starts
    models = Counter(estimate.model_key(found.catalog.models[job.model].entry) for job in found.wanted if job.model)
    counts = [models[key] for key in keys if key in models]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


def test_rates_are_measured_once_and_anew_when_asked(load, monkeypatch):
    found, calls = load("demo"), []
    monkeypatch.setattr(cost, "works", lambda *_: {key: lambda key=key: calls.append(key) or 1.0 for key in "ab"})
    assert cost.measured(found) == {"a": 1.0, "b": 1.0}
    assert cost.measured(found) == {"a": 1.0, "b": 1.0} and calls == ["a", "b"]
    monkeypatch.setattr(cost, "works", lambda *_: {key: lambda key=key: calls.append(key) or 2.0 for key in "bc"})
    assert cost.measured(found) == {"a": 1.0, "b": 1.0, "c": 2.0}
    assert cost.measured(found, again=True) == {"b": 2.0, "c": 2.0}
    monkeypatch.setattr(cost, "version", lambda _: "another torch")
    calls.clear()
    assert cost.measured(found) == {"b": 2.0, "c": 2.0} and calls == ["b", "c"]


def test_a_defense_is_measured_again_for_other_steps_and_not_for_other_weights(load):
    found = load().catalog.models
    entry = found["mnist-lenet-deepdefense"].entry

    def key(**changes):
        parameters = entry.defense.parameters | changes
        return estimate.model_key(
            entry.model_copy(update={"defense": entry.defense.model_copy(update={"parameters": parameters})})
        )

    assert key() == key(c=99.0) == estimate.model_key(entry.model_copy(update={"id": "other"}))
    assert key(iterations=3) != key()
    sweep = [model.entry for name, model in found.items() if "-deepdefense-lambda" in name]
    assert len(sweep) > 10 and {estimate.model_key(entry) for entry in sweep} == {key()}


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (10, "< 0.01"), (360, "0.1"), (3600 * 9.96, "10"), (3600 * 1234.5, "1,234")]
)
def test_hours(value, expected):
    assert cost.hours(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0 B"), (999, "999 B"), (54_900_000, "54.9 MB"), (2e12, "2 TB"), (2e15, "2e+03 TB")]
)
def test_sizes(value, expected):
    assert cost.size(value) == expected
