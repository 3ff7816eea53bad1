"""An attack that is stopped goes on from its finished blocks, and ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import redoubt
from redoubt.attacks import deepfool, interface, universal
from redoubt.evaluation import run as attacking
from redoubt.evaluation import victim as victims
from redoubt.rows import read_rows
from redoubt.steps import attack, train
from redoubt.training.resume import Resume

NOISE = {"epsilon": 0.1, "steps": 2, "step_size": 0.05}
UNIVERSAL = {"attack": "universal", "space": "pixels", "crafting": 40}
KINDS = {
    "deepfool": {"attack": "deepfool", "parameters": {"iterations": 5}, "keep_images": True},
    "pgd, a sweep": {
        "attack": "pgd",
        "space": "pixels",
        "parameters": {"epsilons": [0.01, 0.1], "steps": 2, "restarts": 2, "relative_step_size": 0.5},
    },
    "universal, a sweep": {**UNIVERSAL, "parameters": {"rhos": [0.2, 0.4], "passes": 2, "block": 4}},
    "fgs, searched": {"attack": "fgs", "parameters": {"error": 0.5}},
}
RANDOM = {
    "pgd": {
        "attack": "pgd",
        "space": "pixels",
        "parameters": {"epsilons": [0.1], "steps": 2, "relative_step_size": 0.5},
        "draws": 2,
        "repetitions": 2,
    },
    "pgd, crafted again": {
        "attack": "pgd",
        "space": "pixels",
        "parameters": {"epsilons": [0.1], "steps": 2, "relative_step_size": 0.5},
        "repetitions": 2,
        "recraft": True,
    },
    "pgd, a sweep": {
        "attack": "pgd",
        "space": "pixels",
        "parameters": {"epsilons": [0.05, 0.1], "steps": 2, "relative_step_size": 0.5},
    },
    "universal": {**UNIVERSAL, "parameters": {"rhos": [0.4], "passes": 2, "block": 4}, "repetitions": 2},
    "universal, a sweep": {**UNIVERSAL, "parameters": {"rhos": [0.2, 0.4], "passes": 2, "block": 4}},
}


DEEPFOOL = deepfool.perturb


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def models(tiny_data, tmp_path_factory, make_entry, prepare_once):
    """Function (name of a model) to its weights and preprocessing; `random` draws noise on its weights."""
    made = {}

    def find(name):
        if name not in made:
            noisy = {"defense": "pni", "parameters": NOISE} if name == "random" else {}
            entry = make_entry(width=0.1, epochs=4, **noisy)
            if noisy:
                entry["defense"]["draws"] = "call"
            folder = tmp_path_factory.mktemp("model")
            common = ["--data", tiny_data, "--device", "cpu", "--resume", folder / "resume", "--folder", folder / "m"]
            train.main(["--entry", json.dumps(entry), *map(str, common), "--preprocessing", str(prepare_once(entry))])
            made[name] = folder / "m/weights.safetensors", prepare_once(entry)
        return made[name]

    return find


@pytest.fixture
def command(models, tiny_data, tmp_path):
    """Function (kind of model, attack, name of the rows) to the arguments of the step."""

    def make(model, changes, out):
        weights, preprocessing = models(model)
        entry = {"id": "tested", "space": "preprocessed", "select": {"images": 40}, **changes}
        options = {"data": tiny_data, "weights": weights, "preprocessing": preprocessing, "out": tmp_path / out}
        options |= {"device": "cpu", "resume": tmp_path / "resume", "entry": json.dumps(entry)}
        return [part for key, value in options.items() for part in (f"--{key}", str(value))]

    return make


@pytest.fixture
def small(monkeypatch):
    """Batches of eight images, and a state that is saved whenever it may be."""
    monkeypatch.setattr(attacking, "BATCH", 8)
    monkeypatch.setattr(victims, "BATCH", 8)
    monkeypatch.setattr(Resume, "due", lambda self: True)


def stop_at(patch, calls, start=None):
    """Let scoring and DeepFool fail at a call, or scoring at the batch from `start`; return what grows by each call."""
    seen = []

    def broken(function):
        def call(*arguments, **options):
            seen.append(1)
            if len(seen) == calls or (function is interface.score and arguments[1].start == start):
                raise Interrupted
            return function(*arguments, **options)

        return call

    patch.setattr(attacking, "score", broken(interface.score))
    patch.setattr(universal.deepfool, "perturb", broken(DEEPFOOL))
    return seen


ALL = [("plain", name, entry) for name, entry in KINDS.items()]
ALL += [("random", name, entry) for name, entry in RANDOM.items()]
IN_ONE = {("plain", "fgs, searched"), ("random", "pgd, a sweep")}


@pytest.mark.parametrize(("model", "name", "entry"), ALL, ids=[f"{model} {name}" for model, name, _ in ALL])
def test_stopped_twice_it_ends_with_the_same_bytes(model, name, entry, command, small, monkeypatch, tmp_path):
    whole, stopped = tmp_path / "whole.parquet", tmp_path / "stopped.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(Resume, "due", lambda self: False)
        seen = stop_at(patch, 0)
        assert attack.main(command(model, entry, whole.name)) == 0 and not (tmp_path / "resume").exists()
    calls = len(seen)
    for moment in ({"calls": round(0.4 * calls)}, {"calls": 0, "start": 32}):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            stop_at(patch, **moment)
            attack.main(command(model, entry, stopped.name))
    assert not stopped.exists()
    seen = stop_at(monkeypatch, 0)
    assert attack.main(command(model, entry, stopped.name)) == 0
    assert stopped.read_bytes() == whole.read_bytes()
    assert len(seen) == calls if (model, name) in IN_ONE else len(seen) < 0.7 * calls
    assert not list((tmp_path / "resume").glob("*"))
    rows, sweep = read_rows(stopped), next((key for key in ("epsilon", "rho") if key in read_rows(stopped)), "model")
    assert rows[sweep].is_monotonic_increasing
    each = rows[rows[sweep] == rows[sweep][0]]["index"]
    assert each.drop_duplicates().tolist() == list(range(40)) and len(each) == 40 * entry.get("repetitions", 1)


def test_each_turn_is_seeded_by_its_number(command, small, monkeypatch):
    seen, seed = [], attacking.device.seed_everything
    monkeypatch.setattr(attacking.device, "seed_everything", lambda *names: seen.append(names) or seed(*names))
    assert attack.main(command("random", RANDOM["pgd, crafted again"], "rows.parquet")) == 0
    names = ("tiny-model-pni", 0, "tested")
    seen = [found for found in seen if found[:3] == names]
    assert seen == [(*names, 1), names, (*names, 1)]  # generators of both, draws of the first; draws of the second


def test_a_killed_attack_goes_on(command, small, tmp_path, capsys):
    entry = KINDS["pgd, a sweep"]
    assert attack.main(command("plain", entry, "whole.parquet")) == 0
    code = """
import sys
from redoubt.evaluation import run, victim
from redoubt.steps import attack
from redoubt.training import resume
run.BATCH = victim.BATCH = 8
resume.Resume.due = lambda self: True
attack.main(sys.argv[1:])
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(redoubt.__file__).parents[1])}
    arguments = command("plain", entry, "killed.parquet")
    running = subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment)
    end = time.monotonic() + 60
    while not list((tmp_path / "resume").glob("*/state.safetensors")) and time.monotonic() < end:
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL and not (tmp_path / "killed.parquet").exists()
    capsys.readouterr()
    assert attack.main(arguments) == 0
    assert "resumed after image " in capsys.readouterr().err
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.parametrize("change", ["a byte", "the code", "the entry", "the seed"])
def test_a_state_that_is_not_of_this_attack_is_not_gone_on_from(change, command, small, monkeypatch, tmp_path, capsys):
    entry, arguments = KINDS["deepfool"], ["--seed", "0"]
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, 6)
        attack.main(command("plain", entry, "rows.parquet"))
    (state,) = (tmp_path / "resume").glob("tiny-model-seed-0-tested-*/state.safetensors")
    if change == "a byte":
        content = bytearray(state.read_bytes())
        content[-100] ^= 1
        state.write_bytes(content)
    elif change == "the code":
        monkeypatch.setattr(attacking.code, "digest", lambda *modules: "another")
    elif change == "the entry":
        entry = {**entry, "parameters": {"iterations": 6}}
    else:
        arguments = ["--seed", "1"]
    assert attack.main([*command("plain", entry, "rows.parquet"), *arguments]) == 0
    assert "resumed" not in capsys.readouterr().err


def test_a_state_is_gone_on_from_by_default(command, small, monkeypatch, tmp_path, capsys):
    """The counterpart of the test above: nothing is changed."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, 6)
        attack.main(command("plain", KINDS["deepfool"], "rows.parquet"))
    assert attack.main(command("plain", KINDS["deepfool"], "rows.parquet")) == 0
    assert "resumed after image 16 of 40" in capsys.readouterr().err
