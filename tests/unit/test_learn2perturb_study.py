"""The study of Learn2Perturb: printed numbers against its supplement, methods as it and the public codes have them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from redoubt import registry
from redoubt.defenses import adv_bnn
from redoubt.defenses.learn2perturb import tau
from redoubt.judging.tables import read_csv
from redoubt.networks import resnet_cifar
from redoubt.study import catalog
from redoubt.study.published import read_published

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("none", "vanilla", "pni", "adv-bnn", "learn2perturb")
NETWORKS = ("cifar10-resnet20", "cifar10-resnet18")


@pytest.fixture(scope="module")
def load():
    """Function (scale) to the study at that scale."""
    return lambda scale: catalog.load(ROOT, {"scale": scale, "studies": ["learn2perturb"]})


@pytest.fixture(scope="module")
def published():
    return read_published(ROOT / "config/published/learn2perturb.csv")


def test_printed_numbers_have_their_cells_and_only_white_boxes_have_none(load, published):
    study = load("paper")
    for key, count in (("table-1", 30), ("table-2", 48)):
        cells = {(cell["row"], cell["column"]) for cell in study.artifacts["learn2perturb", key].asked("cells")}
        printed = {(row, column) for artifact, row, column in published if artifact == key}
        assert printed <= cells and len(printed) == count
        assert all(column.split()[0].lower() in row for row, column in cells - printed)
        assert len(cells - printed) == (16 if key == "table-2" else 0)
    assert published["table-1", "cifar10-resnet20-learn2perturb", "2 pixels"].value == pytest.approx(0.6390)
    assert published["table-2", "cifar10-resnet20-adv-bnn", "Vanilla PGD"].value == pytest.approx(0.4863)
    assert published["table-2", "cifar10-resnet20-adv-bnn", "Vanilla PGD"].std == pytest.approx(0.0310)


def test_printed_numbers_agree_with_what_they_must(published):
    for network in NETWORKS:
        for method in METHODS:
            row = f"{network}-{method}"
            one, two, three = (
                published["table-1", row, f"{count}"].value for count in ("1 pixel", "2 pixels", "3 pixels")
            )
            assert one > two > three
            for source in ("Vanilla", "PNI", "Adv-BNN", "Learn2Perturb"):
                if ("table-2", row, f"{source} PGD") in published:
                    pair = [published["table-2", row, f"{source} {attack}"].value for attack in ("PGD", "FGSM")]
                    assert pair[0] < pair[1]


def test_a_transferred_example_is_of_another_model_of_the_same_network(load):
    study, found = load("paper"), 0
    for (target, attack), run in study.runs.items():
        if "-of-" in attack and not attack.startswith("adaptive-"):
            network, source = target.rsplit("-resnet", 1)[0], attack.split("-of-")[1]
            own = target.endswith(f"-{source}")
            assert (run.crafted_on is None) == own
            if not own:
                assert run.crafted_on == f"{network}-resnet{target.split('resnet')[1][:2]}-{source}"
                found += 1
    assert found == 2 * 4 * 3 * 2


@pytest.mark.parametrize("network", [*NETWORKS, "cifar100-resnet18"])
def test_methods_are_those_of_the_supplement_and_of_public_codes(network, load):
    models = load("paper").models
    for method in ("none", "vanilla", "learn2perturb"):
        training = models[f"{network}-{method}"].entry.training
        assert (training.epochs, training.batch_size, training.learning_rate) == (350, 128, 0.1)
        assert training.nesterov and training.weight_decay == 1e-4 and training.drops == {150: 0.1, 250: 0.1}
    sizes = {}
    for method, name in (("vanilla", "pgd-training"), ("pni", "pni"), ("adv-bnn", "adv-bnn"), ("learn2perturb",) * 2):
        defense = models[f"{network}-{method}"].entry.defense
        assert defense.name == name
        sizes[method] = registry.parameters("defenses", name, defense.parameters).epsilon
    assert set(sizes.values()) == {8 / 255}
    assert models[f"{network}-adv-bnn"].entry.training.optimizer == "adam"


def test_deeper_and_wider_networks_differ_in_that_alone(load):
    models, cells = load("paper").models, load("paper").artifacts["learn2perturb", "extra-capacity"].asked("cells")
    sizes = {}
    for row in {cell["row"] for cell in cells}:
        network, method = row.rsplit("-", 2)[0] if row.endswith("adv-bnn") else row.rsplit("-", 1)[0], models[row]
        built = registry.parameters("networks", method.entry.network.name, method.entry.network.parameters)
        sizes.setdefault(network, set()).add((built.depth, built.width))
        like = models[row.replace(network, "cifar10-resnet20")].entry
        assert method.entry.training == like.training and method.entry.defense == like.defense
    assert len(cells) == 7 * 5 * 3
    assert sorted(size for (size,) in sizes.values()) == [
        (20, 1),
        (20, 1.5),
        (20, 2),
        (20, 4),
        (32, 1),
        (44, 1),
        (56, 1),
    ]


def test_the_deviation_of_table_2_covers_crafting(load):
    attacks = load("paper").attacks
    transferred = {name for name in attacks if "-of-" in name and name.partition("-of-")[0] in ("fgsm", "pgd")}
    assert len(transferred) == 8
    assert all(attacks[name].recraft and attacks[name].repetitions == 5 for name in transferred)


def test_accuracy_against_draws_is_under_one_attack_but_for_draws(load):
    study = load("paper")
    cells = study.artifacts["learn2perturb", "extra-draws"].asked("cells")
    assert {cell["draws"] for cell in cells} == {1.0, 5.0, 20.0, 50.0} and len(cells) == 4 * 4
    for cell in cells:
        attack = study.attacks[cell["attack"]]
        assert attack.draws == cell["draws"] and attack.mean == "loss"
        assert attack.model_copy(update={"id": "", "draws": 1}) == study.attacks["random-pgd-70"].model_copy(
            update={"id": ""}
        )


@pytest.mark.parametrize("scale", ["paper", "laptop-jpeg", "gpu"])
def test_a_cut_schedule_begins_adv_bnn_with_noise_below_its_weights(scale, load):
    entry = load(scale).models["cifar10-resnet20-adv-bnn"].entry
    options = registry.parameters("defenses", "adv-bnn", entry.defense.parameters)
    torch.manual_seed(0)
    network = resnet_cifar.build(resnet_cifar.Parameters(depth=20), (3, 32, 32), 10)
    means = adv_bnn.change(options, network, (3, 32, 32), 10).named_parameters()
    deviations = [mean.std().item() for name, mean in means if name.endswith("original") and mean.dim() == 4]
    relative, weight = options.initial_std / np.array(deviations), options.kl_weight / (entry.training.images or 50_000)
    if scale == "paper":
        assert np.median(relative) > 2 and weight == 1 / 50_000
    else:
        assert relative.max() < 1 and weight == pytest.approx(0.02 / 50_000)


def test_the_ledger_quotes_what_was_measured_of_adv_bnn(load):
    rows = read_csv(ROOT / "benchmarks/results/bayesian.csv")
    found = {(row["images"], row["initial_std"], row["kl_weight"], row["kl"]): row for row in rows}
    clean = {key[1:]: float(row["cross_entropy"]) for key, row in found.items() if key[0] == "clean"}
    published, cut = ("0.08", "1.0", "all"), ("0.02", "0.02", "all")
    alone = [("0.08", "0.02", "all"), ("0.02", "1.0", "all")]
    assert clean["", "", ""] < clean[cut] < min(clean[key] for key in alone) < clean[published]
    deviations = load("paper").studies["learn2perturb"].deviations
    (entry,) = (entry for entry in deviations if entry.topic.startswith("Adv-BNN in"))
    quoted = [f"{clean[key]:.2f}" for key in [("", "", ""), published, *alone, cut]]
    shown = [found["one step", *published], found["one step", "", "", ""], found["one step", *cut]]
    quoted += [f"{100 * float(row['one_draw']):.0f} %" for row in shown]
    quoted += [f"{float(shown[0][key]):.1f} times" for key in ("noise_over_mean_before", "noise_over_mean")]
    assert [text for text in quoted if text not in entry.choice] == []


@pytest.mark.parametrize("scale", ["laptop-jpeg", "gpu"])
def test_a_cut_schedule_scales_gamma_so_that_theta_alone_grows_as_far(scale, load):
    def growth(study):
        """Return gamma times the steps at the initial rate, each over tau."""
        entry = study.models["cifar10-resnet20-learn2perturb"].entry
        options = registry.parameters("defenses", "learn2perturb", entry.defense.parameters)
        steps = -(-(entry.training.images or 50000) // 128)
        epochs = range(options.noise_from, int(min(entry.training.drops)))
        return options.gamma * steps * sum(1 / tau(epoch, options.noise_from) for epoch in epochs)

    assert growth(load(scale)) == pytest.approx(growth(load("paper")), rel=0.03)
