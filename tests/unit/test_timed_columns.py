"""Columns of tables that were timed while models were trained: from a trace to cells, and what is refused."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from artifact_entries import artifact_entry, needs_of

from redoubt import registry
from redoubt.artifacts import _drawing as drawing
from redoubt.errors import RedoubtError
from redoubt.study import catalog

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = [{"label": "ratio", "metric": "time-ratio", "definition": ["normal"]}]
TIMES = {"normal": [(2.0, 2.0)] * 3, "slow": [(3.0, 2.0), (8.0, 4.0), (15.0, 3.0)]}  # of a step, and of a normal one


def trace(path, times, own="step_seconds"):
    rows = [(float(epoch), "seconds", 100.0 + epoch) for epoch in range(1, 3)]
    for epoch, (slow, plain) in enumerate(times):
        rows += [(float(epoch), own, slow), (float(epoch), "normal_step_seconds", plain)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["epoch", "measure", "value"]).assign(step=0, probe="epoch-time").to_parquet(path)


@pytest.fixture
def entry(tmp_path):
    def make(own="step_seconds", seeds=(0, 1)):
        parameters = {"models": ["normal", "slow"], "columns": COLUMNS, "show": ["method"]}
        inputs = []
        for need in needs_of("metric-table", parameters):
            files = [str(tmp_path / need.model / f"seed-{seed}" / "trace.parquet") for seed in seeds]
            for seed, file in enumerate(files):
                times = [(slow * (1 + seed), plain) for slow, plain in TIMES[need.model]]
                trace(Path(file), times, own)
            inputs.append({"model": need.model, "attack": need.attack, "missing": None, "files": files})
        printed = tmp_path / "published.csv"
        printed.write_text("artifact,row,column,value,unit\nx-1,slow,ratio,2.0,ratio\nx-1,normal,ratio,1.0,ratio\n")
        models = {name: {"method": name} for name in TIMES}
        return artifact_entry("metric-table", parameters, models, inputs=inputs, published=str(printed), kind="table")

    return make


def test_a_cell_is_the_median_of_steps_over_normal_ones(entry):
    cells = drawing.draw(entry(seeds=(0,))).data.set_index("row")
    assert cells.loc["slow", "reproduced"] == 2.0 and cells.loc["slow", "n"] == 3  # of 1.5, 2 and 5
    assert cells.loc["slow", "verdict"] != "not-run" and cells.loc["slow", "published"] == 2.0
    assert cells.loc["normal", "reproduced"] == 1.0 and cells.loc["normal", "not_counted"] == "by definition"
    assert cells.loc["slow", "over"] == "measurements, given these weights"


def test_runs_are_measured_each_for_itself(entry):
    cells = drawing.draw(entry()).data.set_index("row")
    assert cells.loc["slow", "reproduced"] == (2.0 + 4.0) / 2 and cells.loc["slow", "seeds"] == 2


def test_a_trace_without_the_measurements_is_one_line(entry):
    with pytest.raises(RedoubtError, match=r"normal: its training was not timed; give it the probe epoch-time"):
        drawing.draw(entry(own="other"))


@pytest.mark.parametrize(("metric", "attack"), [("accuracy", None), ("time-ratio", "fgsm")])
def test_only_times_have_no_attack(metric, attack):
    column = {"label": "x", "metric": metric, "attack": attack}
    with pytest.raises(RedoubtError, match="x: time-ratio is measured in trainings, so it has no attack"):
        registry.parameters("artifacts", "metric-table", {"models": ["a"], "columns": [column]})


def test_a_model_that_is_not_timed_is_refused_before_anything_runs(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    file = tmp_path / "config/studies/perceptual_prior/models.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("{repetitions: 1, steps: 3}", "{steps: 3}", 1), encoding="utf-8")
    with pytest.raises(RedoubtError, match=r"'mnist-network-normal' is not timed; give its training the probe epoch"):
        catalog.load(tmp_path, {"scale": "paper", "studies": ["perceptual_prior"]})
