"""What `make bench` runs, with a few images and steps: that every part of it still works."""

import csv
import importlib
import math
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from redoubt.networks._compiled import available

CPU = torch.device("cpu")
SMALL = {  # in place of the parameters of the same names: ours and Foolbox's, or those of a plain loop
    "pgd": {"steps": 2},
    "deepfool": {"iterations": 2},
    "carlini-wagner": {"searches": 1, "steps": 2},
    "ddn": {"steps": 2},
    "fmn": {"steps": 2},
    "spatial": {},
    "few-pixel": {"population": 9, "generations": 1},
}
PARTS = ("bayesian", "noise", "page", "peers", "plain", "referee", "run", "search")


@pytest.fixture
def part(monkeypatch):
    """Function (name) to a module of benchmarks/, which import each other by their bare names."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).resolve().parents[2] / "benchmarks"), *sys.path])
    before = {name: sys.modules.get(name) for name in PARTS}
    yield importlib.import_module
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


def check(rows):
    """Every row has its name, and a speed and a ratio that were measured."""
    names = [row["what"] for row in rows]
    assert len(set(names)) == len(names) > 1
    assert all(math.isfinite(row["value"]) and row["value"] > 0 and row["ratio"] > 0 and row["unit"] for row in rows)


def test_a_model_is_trained_and_attacked_by_both_sides(part, tiny_data, tmp_path, monkeypatch):
    run = part("run")
    monkeypatch.setattr(run, "THREADS", 1)
    model = run.trained(tiny_data, tmp_path / "model", "cpu", epochs=1)
    assert not model.training and model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    few = []
    for title, attack, _, options, rival in run.ATTACKS:
        small = SMALL[attack]
        few.append((title, attack, 2, options | small, partial(rival, **small) if callable(rival) else rival))
    rows = run.attack_rows(model, tiny_data, few)
    check(rows)
    assert {row["what"].split(", ")[-1] for row in rows} == {"ours", "Foolbox", "plain loop"}
    check(run.universal_rows(model, tiny_data, 3))
    check(run.step_rows(model, tiny_data, 1))


def test_starts_are_measured_and_warm_ones_are_the_difference(part, monkeypatch):
    run, taken = part("run"), {}
    works = run.starts()
    for what in (run.BARE, "catalog at paper scale"):
        works[what][0]()
    for number, what in enumerate(works):
        taken[works[what][0]] = {run.ONE: 2.0, run.ELEVEN: 5.0}.get(what, 1.0 + number)
    monkeypatch.setattr(run, "starts", lambda: works)
    monkeypatch.setattr(run, "seconds", lambda work, _: taken[work])
    rows = run.start_rows()
    check(rows)
    assert {row["what"]: row["value"] for row in rows}[run.WARM] == pytest.approx(0.3)


def test_models_with_noise(part):
    noise = part("noise")
    check(noise.training_rows(CPU, 2, 1))
    check(noise.few_pixel_rows(CPU, 1, 1, population=4))


def test_peer_layers_and_their_search(part, tiny_data, monkeypatch):
    peers = part("peers")
    monkeypatch.setattr(peers, "FOUND", {"mnist": ["digits"], "cifar10": ["digits-rgb"]})
    monkeypatch.setattr(peers, "ASKED", 2)
    monkeypatch.setattr(peers, "BATCHES", {"lenet5": 3, "resnet": 3})
    monkeypatch.setattr(peers, "LAYER", {"channels": 4, "side": 4, "images": 2})
    monkeypatch.setattr(peers, "PEERS", (3,))
    monkeypatch.setattr(peers, "alone", peers.memory)
    monkeypatch.setattr(peers.search, "PEERS", (5,))
    rows = peers.rows(tiny_data.parent, CPU, 1)
    check(rows)
    sides = {"PR-ResNet-32", "PR-LeNet-5", "naive", "stripes"} | ({"passes"} if available() else set())
    assert sides <= {row["what"].split(", ")[-1] for row in rows}


def test_rows_become_a_page(part, tmp_path, capsys):
    page = part("page")
    rows = page.compared("step", {"ours": [1.0, 2.0, 3.0], "plain": [2.0, 4.0, 6.0]}, "plain", {"ours": "fast"})
    page.write(rows, "cpu", tmp_path, "cpu")
    assert "| step, ours | 2000 | ms | 0.50 | fast |" in (tmp_path / "cpu.md").read_text()
    assert capsys.readouterr().out.startswith("# Speed on cpu")


def moved(scale, asks=1):
    """An attack on `Ahead`: `scale` times the way to the boundary and a bit, after some forward and backward passes."""

    def attack(model, images, labels):
        inputs = images.requires_grad_()
        for _ in range(asks):
            lead = (model(inputs)[:, 0] - model(inputs)[:, 1]).detach()
            model(inputs).sum().backward()
        return images + (scale * lead / 2 + 1e-5)[:, None, None, None] * torch.tensor([-1.0, 1.0])

    return attack


class Ahead(torch.nn.Module):
    """Sees in an image of two elements the class of the larger one."""

    def forward(self, images):
        return images.flatten(1)


def test_sides_of_the_referee_are_counted_and_compared(part, tmp_path, monkeypatch):
    referee = part("referee")
    monkeypatch.setattr(referee, "BLOCK", 2)
    images = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.9, 0.7]]).view(3, 1, 1, 2)
    walks = {"walk": {referee.OURS: moved(1.0), referee.HALF: moved(2.0), referee.ADV_LIB: moved(4.0, asks=2)}}
    found = referee.measured(walks, Ahead(), images, torch.zeros(3, dtype=torch.int64), "l2")
    sizes = [found["walk", side].sizes for side in walks["walk"]]
    root = 2**0.5
    assert sizes[0] == pytest.approx([0.3 * root, 0.1 * root, 0.1 * root], abs=1e-4)
    assert sizes[1] == pytest.approx([0.6 * root, 0.2 * root, 0.2 * root], abs=1e-4)
    assert sizes[2] == [math.inf, pytest.approx(0.4 * root, abs=1e-4), math.inf]  # the others left the box
    rows = list(referee.minimal_rows("a model", "l2", found))
    assert [row["optimality"] for row in rows] == pytest.approx([1.0, 0.5, 0.0], abs=1e-3)
    assert [row["queries"] for row in rows] == [4.0, 4.0, 8.0]
    assert [row["no_larger"] for row in rows] == [1.0, 1.0, 0.0]
    assert all(row["ratio"] > 0 and row["images_per_s"] > 0 for row in rows)
    (ball, _) = referee.fixed_rows("a model", "l2", 0.2 * root, found)
    assert [ball[name] for name in ("both", "ours_alone", "referee_alone", "neither")] == [2, 0, 0, 1]
    (_, far) = referee.fixed_rows("a model", "l2", 0.3 * root, found)
    assert [far[name] for name in ("both", "ours_alone", "referee_alone", "neither")] == [0, 3, 0, 0]
    referee.write({"referee": rows, "referee-balls": [ball, far]}, tmp_path)
    with (tmp_path / "referee.csv").open(encoding="utf-8") as file:
        assert [row["by"] for row in csv.DictReader(file)] == list(walks["walk"])
    assert "| a model | l2 | walk | ours | 3 | 1 |" in (tmp_path / "referee.md").read_text()
    assert len((tmp_path / "referee-balls.csv").read_text().splitlines()) == 3


def test_our_side_of_the_referee_is_one_of_our_attacks(part):
    referee = part("referee")
    images = torch.tensor([[0.8, 0.2], [0.6, 0.4]]).view(2, 1, 1, 2)
    sides = {"DDN": {referee.OURS: referee.ours("ddn", steps=20)}}
    found = referee.measured(sides, Ahead(), images, torch.zeros(2, dtype=torch.int64), "l2")["DDN", referee.OURS]
    assert found.sizes == pytest.approx([0.3 * 2**0.5, 0.1 * 2**0.5], rel=1e-2)
    assert 0 < found.queries <= 2 * (2 * 20 + 14 + 4)  # some to check the model and to score


def test_a_bayesian_network_is_trained_beside_one_without_noise(part, monkeypatch):
    bayesian = part("bayesian")
    monkeypatch.setattr(bayesian, "STEPS", 2)
    monkeypatch.setattr(bayesian, "BATCH", 4)
    torch.manual_seed(0)
    data = torch.rand(8, *bayesian.SHAPE), torch.arange(8)
    layer = bayesian.Standardised(3)
    layer.std.fill_(1.0)
    plain, *noisy = (bayesian.row(*run, layer, data, data) for run in (*bayesian.RUNS[:2], bayesian.RUNS[-1]))
    assert 0 < plain["cross_entropy"] < 10 and "sigma" not in plain
    assert [round(row["sigma_before"], 3) for row in noisy] == [0.08, 0.02]
    assert noisy[0]["noise_over_mean_before"] == pytest.approx(4 * noisy[1]["noise_over_mean_before"], rel=1e-3)
    assert all(0 <= row["one_draw"] <= 1 and row["sigma"] != row["sigma_before"] for row in noisy)
