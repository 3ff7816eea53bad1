"""The study of Perceptual Prior: printed numbers agree with each other, methods and attacks are those of the text."""

import re
from pathlib import Path

import pytest

from redoubt.study import catalog
from redoubt.study.published import read_published

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "config/published/perceptual_prior.csv"
SIZES = {"mnist-network": 0.3, "fashion-network": 0.1, "cifar10-wrn": 8 / 255}
TABLES = {"table-1": "mnist", "table-2": "cifar10", "table-9": "fashion"}


@pytest.fixture(scope="module")
def study():
    return catalog.load(ROOT, {"scale": "paper", "studies": ["perceptual_prior"]})


@pytest.fixture(scope="module")
def published():
    return read_published(FILE)


def parameters(study, model):
    return dict(study.models[model].entry.defense.parameters)


def test_every_cell_of_the_tables_has_its_printed_number(study, published):
    for key in ("table-1", "table-2", "table-3", "table-4", "table-5", "table-7", "table-8", "table-9", "table-10"):
        cells = {(cell["row"], cell["column"]) for cell in study.artifacts["perceptual_prior", key].asked("cells")}
        assert cells == {(row, column) for artifact, row, column in published if artifact == key}, key


def test_printed_numbers_are_as_in_the_paper(published):
    assert published["table-1", "mnist-network-proposed", "PGD-100"].value == pytest.approx(0.8348)
    assert published["table-1", "mnist-network-proposed", "PGD-100"].std == pytest.approx(0.0034)
    assert published["table-8", "cifar10-wrn-proposed", "DeepFool l2"].value == 2.6984
    assert published["table-9", "fashion-network-proposed", "Clean"].value == pytest.approx(0.89007)
    assert published["table-10", "fashion-network-pgd", "Net-B"].value == pytest.approx(0.8358)
    assert len(published) == 185


def test_table_5_repeats_table_1(study, published):
    """Where both have a cell it is the same number, and our table counts it once."""
    repeated = [key for key in published if key[0] == "table-5" and ("table-1", *key[1:]) in published]
    assert len(repeated) == 10
    columns = {column.label: column for column in study.artifacts["perceptual_prior", "table-5"].parameters.columns}
    for _, row, column in repeated:
        assert published["table-5", row, column].value == published["table-1", row, column].value
        assert columns[column].not_counted(row) == "repeats another table"
    assert columns["Clean"].not_counted("mnist-network-both") is None
    assert columns["Spatial"].not_counted("mnist-network-normal") is None


def test_printed_attacks_with_more_steps_leave_no_more_accuracy(published):
    for (table, row, column), number in published.items():
        if table in TABLES and column in ("PGD-100", "PGD-20"):
            fewer = {"PGD-100": "PGD-40", "PGD-20": "PGD-7"}[column]
            assert number.value <= published[table, row, fewer].value <= published[table, row, "FGSM"].value, row


def test_time_ratios_are_quotients_of_the_seconds_in_their_notes():
    found = 0
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if ",time ratio," in line:
            own, normal = map(int, re.findall(r"printed (\d+) and (\d+) seconds", line)[0])
            value = line.split(",")[3]
            assert abs(float(value) - own / normal) <= (0.05 if "." in value else 0.5), line
            found += 1
    assert found == 20


@pytest.mark.parametrize(("model", "size"), SIZES.items())
def test_trainings_and_attacks_have_the_size_of_their_dataset(model, size, study):
    data = {"mnist-network": "mnist", "fashion-network": "fashion", "cifar10-wrn": "cifar10"}[model]
    for method, key in (("fgsm", "epsilon"), ("pgd", "epsilon"), ("proposed", "xi")):
        assert parameters(study, f"{model}-{method}").get(key, size) == size, method
    for attack, entry in study.attacks.items():
        if re.fullmatch(rf"(fgsm|ifgsm|pgd\d+)-{data}(-of-.*)?", attack):
            assert entry.parameters["epsilons"] == [size], attack
            assert entry.space == "pixels" and entry.select.images is None, attack
            assert entry.attack == "fgs" or entry.parameters["stop"] is False, attack


def test_methods_differ_from_the_proposed_one_in_what_they_are_named_for(study):
    for model, lam, norm in (("mnist-network", 10, 4), ("cifar10-wrn", 50, 0.2)):
        first = parameters(study, f"{model}-proposed")
        assert first.get("lambda", 10.0) == lam and first.get("pairs", ["sign"]) == ["sign"]
        without = parameters(study, f"{model}-ablation1")
        assert without == first | {"lambda": 0.0}
        other = parameters(study, f"{model}-ablation2")
        assert (other["pairs"], other.get("norm", 4.0), other.get("lambda", 10.0)) == (["l2"], norm, lam)
        assert parameters(study, f"{model}-ablation3") == other | {"lambda": 0.0}
    assert parameters(study, "mnist-network-both")["pairs"] == ["sign", "spatial"]
    changed = {"plain": {"distance": "plain"}, "unclipped": {"clip": False}, "constant": {}}
    proposed = study.models["mnist-network-proposed"]
    for name, own in changed.items():
        model = study.models[f"mnist-network-proposed-{name}"]
        assert dict(model.entry.defense.parameters) == parameters(study, "mnist-network-proposed") | own
        assert (model.entry.training.drops == proposed.entry.training.drops) is (name != "constant")
        assert model.seeds == proposed.seeds == (0, 1, 2)


def test_figure_4_is_measured_on_images_that_its_models_were_not_trained_on(study):
    models = {need.model for need in study.artifacts["perceptual_prior", "figure-4"].asked("needs")}
    assert {parameters(study, model).get("lambda", 10.0) for model in models} == {0.1, 0.5, 1, 5, 10, 50, 100}
    assert {study.models[model].entry.training.validation for model in models} == {10000}
    assert study.attacks["pgd100-validation"].select.split == "validation"
