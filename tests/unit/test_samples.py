"""What lies behind a number: the images of each run, by the address of the number."""

import pandas as pd
import pytest

from redoubt.errors import RedoubtError
from redoubt.judging.estimate import estimate
from redoubt.judging.evidence import NoNumber
from redoubt.judging.finished import Finished
from redoubt.rows import write_rows
from redoubt.study import catalog
from redoubt.study.addresses import Address
from redoubt.study.needs import Need

MODEL = "mnist-lenet-deepdefense"
FOUND = catalog.load(".", {"scale": "paper"}, environment={})


def place(study, artifact, *values, **named):
    return FOUND._artifacts.place(study, Address(artifact, values, tuple(named.items())))


def finished(root):
    return Finished(FOUND, root / "results/paper")


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
    number = place("deepdefense", "table-1", MODEL, "Acc.@0.5eps_ref")
    assert (number.metric, number.model, number.attack) == ("accuracy(at=attacked)", MODEL, "fgs-reference")
    runs = finished(tmp_path).sample(number).runs
    assert tuple(runs) == FOUND.models[MODEL].seeds
    for run in runs.values():
        assert run.images.tolist() == [2, 4, 9] and run.values.tolist() == [0.0, 1.0, 1.0]
        assert run.values.mean() == estimate(number.metric, rows[rows["fraction"] == 0.5]).value


def test_a_point_of_a_curve_is_found_by_its_swept_value(tmp_path):
    drawn = FOUND.artifacts["peernets", "figure-7"]
    (known, *_) = (each for each in drawn.asked("samples") if each.model == "mnist-lenet5-peernet")
    rows = pd.DataFrame({"index": [0, 1], "rho": 0.2, "label": 0, "clean_label": [0, 0], "adversarial_label": [0, 1]})
    write(tmp_path, known.attack, pd.concat([rows, rows.assign(rho=0.4)]), known.model)
    names = drawn.asked("address")
    others = {name: value for name, value in known.cell.items() if name not in names}
    number = place("peernets", "figure-7", *(known.cell[name] for name in names), **others, rho=0.4)
    (run,) = finished(tmp_path).sample(number).runs.values()
    assert run.images.tolist() == [0, 1] and run.values.tolist() in ([0, 1], [1, 0])


def test_every_judged_cell_says_what_it_is_made_of():
    for (study, artifact), drawn in FOUND.artifacts.items():
        for each in drawn.asked("samples"):
            timed = each.attack is None and each.metric == "time-ratio"
            assert timed or (each.model, each.attack) in FOUND.runs
            assert each.metric in drawn.asked("metrics")
        for cell in drawn.asked("cells"):
            if "verdict" in cell:
                number = place(study, artifact, cell["row"], cell["column"])
                assert number.model == cell["row"] and number.metric == cell["metric"]
                assert number.attack is not None or number.metric == "time-ratio"


def test_a_further_value_of_an_address_is_the_column_of_the_number():
    plain = place("deepdefense", "table-1", MODEL, "Acc.")
    spread = place("deepdefense", "table-1", MODEL, "Acc.", "std_repetitions")
    assert (plain.value, plain.attack) == ("reproduced", "deepfool")
    assert (spread.value, spread.attack, spread.where) == ("std_repetitions", None, plain.where)
    with pytest.raises(RedoubtError, match="table-1 has no column 'std_repetition'"):
        place("deepdefense", "table-1", MODEL, "Acc.", "std_repetition")


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    number = place("deepdefense", "table-1", MODEL, "Acc.")
    with pytest.raises(NoNumber, match=f"the rows of deepfool on {MODEL}, seed 0, are not here"):
        finished(tmp_path).sample(number)
    with pytest.raises(RedoubtError, match="table-1 will have no cell where row = x"):
        place("deepdefense", "table-1", "x", "Acc.")
    with pytest.raises(RedoubtError, match="a metric-table is asked for row, column"):
        place("deepdefense", "table-1", MODEL)
    monkeypatch.setattr(catalog.Catalog, "missing", lambda self, need: "no MNIST here")
    with pytest.raises(NoNumber, match="no MNIST here"):
        finished(tmp_path).sample(number)
