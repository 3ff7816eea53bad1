"""The study of PeerNets: printed numbers have a place, claims pass the peer layers by, schedules are of table 1."""

from pathlib import Path

import pytest

from redoubt import registry
from redoubt.study import catalog
from redoubt.study.published import read_published

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def study():
    return catalog.load(ROOT, {"scale": "paper", "studies": ["peernets"]})


@pytest.fixture(scope="module")
def published():
    return read_published(ROOT / "config/published/peernets.csv")


def test_rates_are_shares_and_norms_are_as_printed(published):
    assert published["table-4", "cifar10-resnet32-peernet", "Fool.@0.1"].value == pytest.approx(0.2831)
    assert published["table-2", "cifar10-resnet32-peernet", "GD l2"].value == 238.72
    assert published["table-5", "cifar100-resnet110v2-peernet", "Acc.@0.06"].value == pytest.approx(0.3674)
    for (artifact, _, column), number in published.items():
        if column.startswith(("Acc", "Fool", "single", "iterative")) or column.endswith("fooled"):
            assert 0 <= number.value <= 1, (artifact, column)


def test_accuracy_and_fooling_rate_of_a_cell_fit_each_other(published):
    """An image is wrong afterwards if it was fooled while right: accuracy falls by the fooling rate at most."""
    for (artifact, row, column), found in published.items():
        if column.startswith("Fool.@"):
            clean = published[artifact, row, "Acc."].value
            under = published[artifact, row, column.replace("Fool.", "Acc.")].value
            assert clean - under <= found.value + 0.001, (row, column)


def test_printed_columns_of_figures_are_known(study, published):
    found = 0
    for artifact in study.artifacts.values():
        if artifact.plot == "lines":
            for panel in artifact.parameters.panels:
                if panel.printed is None:
                    continue
                own = [column for table, row, column in published if (table, row) == (panel.printed, panel.models[0])]
                templates = [measure.printed for measure in artifact.parameters.y if measure.printed]
                assert {column.split("@")[0] for column in own} == {each.split("@")[0] for each in templates}
                found += 1
        if artifact.plot == "bars":
            labels = {column.label for column in artifact.parameters.columns}
            assert {bar.column for panel in artifact.parameters.panels for bar in panel.bars} == labels
            found += 1
    assert found == 6


def test_straight_through_gradients_can_refute_that_gradients_are_not_obfuscated(study):
    """Every way past the peer layers that `extra-obfuscation` looks at is looked at by a claim too."""
    (obfuscation,) = (artifact for (_, key), artifact in study.artifacts.items() if key == "extra-obfuscation")
    passing = [check for check in obfuscation.parameters.checks if "straight-through" in str(check)]
    known = {(number.model, number.attack) for check in passing for number in check.numbers}
    asked = {
        (place.model, place.attack) for check in study.claims["peernets", "claim-16"].checks for place in check.places
    }
    assert known <= asked and len(passing) == 4


def test_attacks_of_the_named_public_codes_take_all_their_steps(study):
    for key in ("pgd-challenge", "single-white", "single-black", "iterative-white", "iterative-black"):
        assert study.attacks[key].parameters["stop"] is False, key
    for key, attack in study.attacks.items():
        if attack.attack == "universal":
            assert attack.parameters["project"] == "sphere", key


@pytest.mark.parametrize(
    ("model", "optimizer", "epochs", "batch", "rate", "decay"),
    [
        ("mnist-lenet5-none", "adam", 100, 128, 1e-3, 1e-4),
        ("mnist-lenet5-peernet", "adam", 100, 32, 1e-3, 1e-4),
        ("cifar10-resnet32-none", "sgd", 350, 128, 0.1, 1e-3),
        ("cifar10-resnet32-peernet", "sgd", 350, 64, 0.01, 1e-3),
        ("cifar100-resnet110-none", "sgd", 350, 128, 0.1, 2e-3),
        ("cifar100-resnet110-peernet", "sgd", 350, 64, 0.01, 2e-3),
    ],
)
def test_schedules_are_those_of_table_1(model, optimizer, epochs, batch, rate, decay, study):
    training = study.models[model].entry.training
    found = [getattr(training, key) for key in ("optimizer", "epochs", "batch_size", "learning_rate", "weight_decay")]
    assert found == [optimizer, epochs, batch, rate, decay]
    drops = {} if optimizer == "adam" else {100.0: 0.1, 175.0: 0.1, 250.0: 0.1}
    assert training.drops == drops and training.momentum == 0.9


def test_peers_are_those_of_the_rows(study):
    graphs = {}
    for key, model in study.models.items():
        if model.entry.defense.name == "peernet":
            options = registry.parameters("defenses", "peernet", model.entry.defense.parameters)
            graphs[key] = (options.peers, options.draws)
            assert (str(options.peers), str(options.draws)) == (model.labels["graph"], model.labels["runs"])
            assert options.neighbours == 10 and (options.edge_dropout, options.attention_dropout) == (0.2, 0.5)
            if model.start is not None:
                assert model.entry.training.epochs == 0
    assert graphs["cifar10-resnet32-peernet-n100-m5"] == (100, 5) and graphs["mnist-lenet5-peernet"] == (50, 10)


def test_sizes_of_attacks_are_on_one_scale(study):
    query, challenge = study.attacks["iterative-black"].parameters, study.attacks["pgd-challenge"].parameters
    assert [round(255 * epsilon, 2) for epsilon in query["epsilons"]] == [0.5, 8.0, 12.0]
    assert [round(255 * query[key], 2) for key in ("step_size", "delta")] == [1.0, 1.0]
    assert [round(255 * size, 2) for size in (*challenge["epsilons"], challenge["step_size"])] == [8.0, 2.0]
    for key, attack in study.attacks.items():
        assert attack.space == "pixels", key
