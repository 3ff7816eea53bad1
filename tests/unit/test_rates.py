"""What `make plan` rests on: passes that are counted, and seconds that are those of this process."""

import math
import time
from pathlib import Path

import pytest
import torch

from redoubt import registry
from redoubt.cost import estimate
from redoubt.cost import measure as rates
from redoubt.study import catalog
from redoubt.study.entries.attack import AttackEntry
from tests.defenses import CASES

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (1, 28, 28)


@pytest.fixture
def make_attack(make_attack):
    """The function that makes an attack's entry, as a record."""
    return lambda *given, **changes: AttackEntry.parse(make_attack(*given, **changes))


def counted(make_attack, attack, sources=(), **changes):
    """Return the passes and rows of one attacked image; nothing else may cost anything."""
    found = rates.of_attack(make_attack(attack, space="pixels", **changes), list(sources), SHAPE, 10)
    assert not any(found["fixed"].values()) and not any(found["crafting"].values())
    return found["image"]


def test_passes_of_attacks_with_a_known_number(make_attack):
    # DeepFool: five linearisations by nine classes. Beside what is asked for, a few passes look at the end and score.
    assert counted(make_attack, "deepfool", parameters={"iterations": 5})["backward"] == 5 * 9
    pgd = counted(make_attack, "pgd", parameters={"epsilons": [0.1, 0.2], "steps": 7, "relative_step_size": 0.5})
    assert pgd["backward"] == 2 * 7 and 0 < pgd["forward"] - 2 * 7 < 10 and pgd["rows"] == 2
    grid = counted(make_attack, "spatial", parameters={"method": "grid", "rotations": 3, "translations": 5})
    assert grid["backward"] == 0 and 0 < grid["forward"] - 3 * 5 * 5 < 5
    queries = {"epsilons": [0.1], "steps": 1, "step_size": 0.1, "gradient": "estimated", "group": 1}
    assert 0 < counted(make_attack, "finite-difference", parameters=queries)["forward"] - 2 * 784 < 5


def test_draws_and_repetitions_multiply(make_attack):
    step = {"epsilons": [0.1]}
    once = counted(make_attack, "fgs", parameters=step)
    assert once == {"forward": 3, "backward": 1, "rows": 1}
    assert counted(make_attack, "fgs", parameters=step, draws=4, repetitions=3) == {
        "forward": 4 + 3 + 3,  # a random model is asked about clean images in every repetition
        "backward": 4,
        "rows": 3,
    }
    assert counted(make_attack, "fgs", parameters=step, draws=4, repetitions=3, recraft=True) == {
        "forward": 3 * (4 + 1 + 1),
        "backward": 3 * 4,
        "rows": 3,
    }


def test_a_search_for_errors_ends_though_the_model_is_firm(make_attack):
    found = rates.of_attack(make_attack("fgs", parameters={"error": 0.5}), [], SHAPE, 10)
    assert found["image"]["rows"] == 1 and 15 < found["image"]["forward"] < 40


def test_crafting_images_cost_apart_from_those_that_are_attacked(make_attack):
    entry = make_attack("universal", space="pixels", parameters={"rhos": [0.1, 0.2], "passes": 3}, crafting=100)
    found = rates.of_attack(entry, [], SHAPE, 10)
    iterations = registry.parameters("attacks", "universal", {"rhos": [0.1]}).iterations
    assert found["crafting"]["backward"] == 2 * 3 * iterations * 9
    assert found["image"] == {"forward": 3, "backward": 0, "rows": 2}


def test_attacks_that_read_rows_find_some(make_attack):
    images = make_attack("deepfool", id="images")
    assert counted(make_attack, "replay", [images])["rows"] == 1
    universal = make_attack("universal", parameters={"rhos": [0.1, 0.2, 0.3]})
    assert counted(make_attack, "replay", [universal])["rows"] == 3
    assert counted(make_attack, "fgs", [images], parameters={"fractions": [0.5, 1.0]})["rows"] == 2


def test_an_inspection_of_layers_is_not_counted(make_attack):
    assert rates.of_attack(make_attack("timing", space="pixels"), [], SHAPE, 10) is None
    signs = rates.of_attack(make_attack("gradient-signs"), [], SHAPE, 10)
    assert signs["image"]["backward"] == 1 and signs["image"]["rows"] == 1  # those in float64 are not counted


def test_every_attack_of_the_paper_scale_is_counted_but_inspections():
    found = catalog.load(ROOT, {"scale": "demo"})
    left = set()
    for attack in found.attacks.values():
        read = [found.attacks["universal-mnist"]] if attack.attack == "replay" else []
        read = [found.attacks["deepfool"]] if attack.parameters.get("fractions") else read
        cheap = attack.model_copy(update={"parameters": {**attack.parameters, **_cheaper(attack)}})
        if rates.of_attack(cheap, read, SHAPE, 10) is None:
            left.add(attack.method[1])
    assert left == {"peer-gradients", "peer-graph", "timing", "worst-of"}


def _cheaper(attack):
    smaller = {"steps": 2, "population": 8, "generations": 2, "group": 128, "searches": 2, "iterations": 2}
    smaller |= {"passes": 1, "balls": 3}
    return {
        key: value for key, value in smaller.items() if key in registry.method(*attack.method).Parameters.model_fields
    }


def test_seconds_are_those_of_this_process():
    cpu = torch.device("cpu")
    assert rates.seconds(lambda: time.sleep(0.3), cpu) < 0.1

    def work():
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

    assert rates.seconds(work, cpu) >= 0.1


@pytest.mark.parametrize("defense", registry.names("defenses"))
def test_every_kind_of_model_is_measured(defense):
    found = catalog.load(ROOT, {"scale": "demo"})
    entry = _entry(found, defense)
    state = torch.random.get_rng_state()
    speed = rates.of_model(entry, *estimate.facts(entry.dataset), "cpu", 1)
    torch.random.set_rng_state(state)
    assert speed["step"] > 0 and speed["forward"] > 0 and speed["backward"] >= 0 and speed["prepare"] >= 0
    weights = 4 * sum(weight.numel() for weight in _built(entry).parameters())
    assert weights <= speed["bytes"] < 1.2 * weights + 2e5


def test_a_step_is_that_of_the_last_epoch(monkeypatch):
    found, moments = catalog.load(ROOT, {"scale": "demo"}), []
    entry = _entry(found, "learn2perturb")
    step = registry.method("defenses", "learn2perturb").Defense.step
    monkeypatch.setattr(
        registry.method("defenses", "learn2perturb").Defense,
        "step",
        lambda self, batch, moment, optimizer: moments.append(moment.epoch) or step(self, batch, moment, optimizer),
    )
    rates.of_model(entry, *estimate.facts(entry.dataset), "cpu", 1)
    assert entry.training.epochs > 1 and set(moments) == {math.ceil(entry.training.epochs) - 1}


def _entry(found, defense):
    """A small model that the defense makes; of one that no study has yet, PGD training's with what its case has."""
    entries: dict = {}
    for model in found.models.values():
        entries.setdefault(model.entry.defense.name, model.entry)  # a study begins with its smallest network
    if defense in entries:
        return entries[defense]
    entry = entries["pgd-training"]
    changes = registry.method("defenses", defense).DECLARES.changes
    named = {"name": defense, "parameters": CASES[defense].parameters, "changes": changes}
    return entry.model_copy(update={"defense": entry.defense.model_copy(update=named)})


def _built(entry):
    from redoubt.models.classifier import build

    return build(entry, *estimate.facts(entry.dataset))
