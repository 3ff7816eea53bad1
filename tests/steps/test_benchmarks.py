"""What `make bench` runs, with a few images and steps: that every part of it still works."""

import importlib
import math
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

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
PARTS = ("noise", "page", "peers", "plain", "referee", "run", "search")


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
    monkeypatch.setattr(peers, "FOUND", dict.fromkeys(peers.FOUND, ["digits"]))
    monkeypatch.setattr(peers, "ASKED", 2)
    monkeypatch.setattr(peers, "BATCHES", {"lenet5": 3, "resnet": 3})
    monkeypatch.setattr(peers, "LAYER", {"channels": 4, "side": 4, "images": 2})
    monkeypatch.setattr(peers, "PEERS", (3,))
    monkeypatch.setattr(peers, "alone", peers.memory)
    monkeypatch.setattr(peers.search, "PEERS", (5,))
    rows = peers.rows(tiny_data.parent, CPU, 1)
    check(rows)
    assert {"PR-ResNet-32", "PR-LeNet-5", "naive", "all products"} <= {row["what"].split(", ")[-1] for row in rows}


def test_rows_become_a_page(part, tmp_path, capsys):
    page = part("page")
    rows = page.compared("step", {"ours": [1.0, 2.0, 3.0], "plain": [2.0, 4.0, 6.0]}, "plain", {"ours": "fast"})
    page.write(rows, "cpu", tmp_path, "cpu")
    assert "| step, ours | 2000 | ms | 0.50 | fast |" in (tmp_path / "cpu.md").read_text()
    assert capsys.readouterr().out.startswith("# Speed on cpu")
