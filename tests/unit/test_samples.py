"""What lies behind a number: the images of each run, by the address of the number."""

import pandas as pd
import pytest

from redoubt.errors import RedoubtError
from redoubt.judging.estimate import estimate
from redoubt.judging.samples import NoSample, sample, source, sources
from redoubt.rows import write_rows
from redoubt.study import catalog
from redoubt.study.needs import Need

MODEL = "mnist-lenet-deepdefense"
FOUND = catalog.load(".", {"scale": "paper"}, environment={})


def write(root, attack, rows, study_model=MODEL):
    for file in FOUND.files_of(Need(study_model, attack)):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        write_rows(rows, root / file, {"model": study_model, "shape": "[1, 28, 28]"})


@pytest.fixture(autouse=True)
def available(monkeypatch):
    monkeypatch.setattr(catalog.Catalog, "missing", lambda self, need: None)


def test_a_cell_has_the_values_that_its_number_is_made_of(tmp_path):
    rows = pd.DataFrame({"index": [4, 2, 9], "fraction": 0.5, "label": [0, 1, 2], "adversarial_label": [0, 5, 2]})
    rows = pd.concat([rows, rows.assign(fraction=1.0, adversarial_label=7)])
    write(tmp_path, "fgs-reference", rows)
    found = sample(FOUND, "deepdefense", "table-1", {"row": MODEL, "column": "Acc.@0.5eps_ref"}, tmp_path)
    assert (found.metric, found.model, found.attack) == ("accuracy(at=attacked)", MODEL, "fgs-reference")
    seeds = FOUND.models[MODEL].seeds
    expected = pd.DataFrame({"index": [4, 2, 9], "value": [1.0, 0.0, 1.0]})
    runs = [expected.assign(seed=seed)[["seed", "index", "value"]] for seed in seeds]
    pd.testing.assert_frame_equal(found.values, pd.concat(runs, ignore_index=True))
    assert found.values["value"].mean() == estimate(found.metric, rows[rows["fraction"] == 0.5]).value


def test_a_point_of_a_curve_is_found_by_its_swept_value(tmp_path):
    (known, *_) = (each for each in sources(FOUND, "peernets", "figure-7") if each.model == "mnist-lenet5-peernet")
    rows = pd.DataFrame({"index": [0, 1], "rho": 0.2, "label": 0, "clean_label": [0, 0], "adversarial_label": [0, 1]})
    write(tmp_path, known.attack, pd.concat([rows, rows.assign(rho=0.4)]), known.model)
    where = {**known.cell, "rho": 0.4}
    assert sample(FOUND, "peernets", "figure-7", where, tmp_path).values["value"].tolist() in ([0, 1], [1, 0])


def test_every_judged_cell_says_what_it_is_made_of():
    for (study, artifact), drawn in FOUND.artifacts.items():
        for each in drawn.asked("samples"):
            assert (each.model, each.attack) in FOUND.runs
            assert each.metric in drawn.asked("metrics")
        for cell in drawn.asked("cells"):
            if "verdict" in cell:
                place = {"row": cell["row"], "column": cell["column"]}
                assert source(FOUND, study, artifact, place).model == cell["row"]


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    place = {"row": MODEL, "column": "Acc."}
    with pytest.raises(NoSample, match=f"deepfool has not been run on {MODEL}, seed 0"):
        sample(FOUND, "deepdefense", "table-1", place, tmp_path)
    with pytest.raises(RedoubtError, match="table-1: no numbers have rows of images where row = x"):
        sample(FOUND, "deepdefense", "table-1", {"row": "x"}, tmp_path)
    with pytest.raises(RedoubtError, match="table-1: 6 numbers have rows of images"):
        sample(FOUND, "deepdefense", "table-1", {"row": MODEL}, tmp_path)
    monkeypatch.setattr(catalog.Catalog, "missing", lambda self, need: "no MNIST here")
    with pytest.raises(NoSample, match="no MNIST here"):
        sample(FOUND, "deepdefense", "table-1", place, tmp_path)
