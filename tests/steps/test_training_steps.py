"""Pretraining and defending from the command line, on a few published digits."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import redoubt
from redoubt import registry
from redoubt.data import store
from redoubt.device import seed_everything
from redoubt.files import file_digest
from redoubt.models.weights import load_model
from redoubt.steps import prepare, train
from redoubt.training import data as fitting
from redoubt.training import fit as orchestration
from redoubt.training.resume import Resume
from tests.defenses import CASES

FILES = ["history.csv", "model.json", "trace.parquet", "weights.safetensors"]
CPU = torch.device("cpu")


@pytest.fixture
def command(tiny_data, tmp_path, prepared, make_entry):
    def make(entry, folder, seed=0, start=None):
        text = entry if isinstance(entry, str) else json.dumps(entry)
        file = prepared(make_entry() if isinstance(entry, str) else entry)
        arguments = ["--entry", text, "--seed", seed, "--data", tiny_data, "--folder", tmp_path / folder]
        arguments += [
            "--preprocessing",
            file,
            "--resume",
            tmp_path / "resume",
            "--device",
            "cpu",
            *(["--start", start] if start else []),
        ]
        return [str(argument) for argument in arguments]

    return make


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_pretrain_then_defend(command, make_entry, prepared, tmp_path, capfd):
    entry = make_entry(epochs=3, track={"images": 50})
    assert train.main(command(entry, "base")) == 0
    out, err = capfd.readouterr()
    assert out.startswith("tiny-model: epoch 3") and out.count("\n") == 1 and err == ""
    assert [path.name for path in sorted((tmp_path / "base").iterdir())] == FILES
    facts = json.loads((tmp_path / "base/model.json").read_text())
    assert facts["entry"] == entry and facts["shape"] == [1, 28, 28]
    learned = {"name": "mean-image", "sha256": file_digest(prepared(entry))}
    assert facts["preprocessing"] == learned and len(facts["classes"]) == 10
    assert facts["steps"] == 30 and facts["seed"] == 0
    history = pd.read_csv(tmp_path / "base/history.csv")
    assert history["epoch"].tolist() == [0, 1, 2, 3] and set(history["test_images"]) == {50}
    assert history["test_accuracy"].iloc[-1] > 0.5 > history["test_accuracy"].iloc[0]
    assert facts["final"]["test_accuracy"] == history["test_accuracy"].iloc[-1]
    assert not list((tmp_path / "resume").iterdir())

    weights = tmp_path / "base/weights.safetensors"
    before = weights.read_bytes()
    for defense, case in ((name, case) for name, case in CASES.items() if case.start):
        tuned = make_entry(
            start="tiny-model",
            defense=defense,
            parameters=case.parameters,
            epochs=1,
            learning_rate=0.0005,
            track={"images": 30},
            probes=[{"probe": "rho-2", "parameters": {"iterations": 3}}],
        )
        assert train.main(command(tuned, defense, start=weights)) == 0
        trace = pd.read_parquet(tmp_path / defense / "trace.parquet")
        assert trace["epoch"].tolist() == [0, 1] and set(trace["measure"]) == {"test_rho_2"}
        assert trace["value"].between(0.01, 1 if case.accuracy else 1e3).all()
        old, new = load_file(weights), load_file(tmp_path / defense / "weights.safetensors")
        assert json.loads((tmp_path / defense / "model.json").read_text())["preprocessing"] == learned
        own = f"{case.frozen or ''}fc1.weight"
        assert torch.equal(old["fc1.weight"], new[own]) == (case.frozen is not None)
    assert weights.read_bytes() == before


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.start])
def test_defended_models_from_scratch(name, command, make_entry, prepared, tiny_data, tmp_path):
    case = CASES[name]
    parameters = {**case.parameters, "step_size": 0.1} if name == "pgd-training" else case.parameters
    settings = {**case.schedule, "preprocessing": "standardised", "epochs": 2}
    entry = make_entry(case.network, defense=name, parameters=parameters, **settings)
    for folder in ("one", "other"):
        assert train.main(command(entry, folder)) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert json.loads((tmp_path / "one/model.json").read_text())["entry"] == entry
    weights = tmp_path / "one/weights.safetensors"
    history = pd.read_csv(tmp_path / "one/history.csv")
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[1]
    # Loaded as attacks load it, the model is the one that was measured.
    model, _ = load_model(weights, prepared(entry), CPU)
    test, epoch = store.load(tiny_data, "test"), len(store.load(tiny_data, "train"))
    steps = 2 * math.ceil(epoch / entry["training"]["batch_size"])
    seed_everything(entry["id"], 0, "test", steps)  # a random model draws as it drew then
    accuracy = (model(test.images().float() / 255).argmax(1) == test.labels).double().mean()
    assert accuracy.item() == history["test_accuracy"].iloc[-1]

    again = {**entry, "id": "again", "start": entry["id"], "training": {**entry["training"], "epochs": 0}}
    assert train.main(command(again, "again", start=weights)) == 0
    old, new = load_file(weights), load_file(tmp_path / "again/weights.safetensors")
    assert old.keys() == new.keys()
    changed = [key for key in old if not torch.equal(old[key], new[key])]
    assert changed == (["peers"] if name == "peernet" else [])


def test_norms_train_from_scratch_and_are_frozen_in_fine_tuning(command, make_entry, tmp_path):
    settings = {"network": "resnet-cifar", "width": 0.25, "preprocessing": "standardised", "epochs": 1}
    scratch = make_entry(defense="bounded-relu", **settings)
    scratch["network"]["parameters"]["depth"] = 8
    assert train.main(command(scratch, "scratch")) == 0
    weights = tmp_path / "scratch/weights.safetensors"
    tuned = {**scratch, "id": "tuned", "start": scratch["id"]}
    assert train.main(command(tuned, "tuned", start=weights)) == 0
    before, after = load_file(weights), load_file(tmp_path / "tuned/weights.safetensors")
    norms = [key for key in before if ".bn" in key]
    assert before["stem.bn.running_mean"].abs().max() > 0 and (before["stem.bn.weight"] != 1).any()
    assert all(torch.equal(before[key], after[key]) for key in norms) and len(norms) == 35
    assert not torch.equal(before["stem.conv.weight"], after["stem.conv.weight"])


def test_detectors_are_set_after_training(command, make_entry, prepared, tiny_data, tmp_path):
    train.main(command(make_entry(epochs=3), "base"))
    parameters = {"false_positives": 0.1, "temperatures": [10]}
    entry = make_entry(start="tiny-model", defense="magnet", parameters=parameters, epochs=1, images=100)
    train.main(command(entry, "magnet", start=tmp_path / "base/weights.safetensors"))
    model, _ = load_model(tmp_path / "magnet/weights.safetensors", prepared(entry), CPU)
    split = store.load(tiny_data, "train")
    images = split.images(fitting.stratified(split.labels, 100)).float() / 255
    inputs = model.preprocessing(images)
    assert torch.allclose(model.network.pixels.images(inputs), images, atol=1e-5)  # the way back travels along
    marks = model.network.marks(inputs)
    assert (marks >= model.network.thresholds).sum(0).tolist() == [10, 10]


def test_same_seed_same_bytes_and_another_seed_others(command, make_entry, tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        train.main(command(make_entry(epochs=1), folder, seed))
    first, again, other = (contents(tmp_path / folder) for folder in "abc")
    assert first == again and all(first[name] != other[name] for name in FILES if name != "trace.parquet")


def test_a_key_with_its_default_changes_no_byte(command, make_entry, tmp_path):
    entry = make_entry(epochs=1, probes=[{"probe": "logit-distances", "every": 3}])
    given = json.loads(json.dumps(entry))
    given["training"] |= {"momentum": 0.9, "drops": {}, "track": {"images": None}}
    given["network"]["parameters"]["initial_std"] = None
    given["preprocessing"]["parameters"] = {"channels": None}
    given["defense"]["draws"] = "never"
    for folder, asked in (("left-out", entry), ("given", given)):
        assert train.main(command(asked, folder)) == 0
    assert contents(tmp_path / "given") == contents(tmp_path / "left-out")


def test_a_key_that_training_does_not_depend_on_changes_no_number(command, make_entry, tmp_path):
    probed = make_entry("lenet5", defense="peernet", parameters=CASES["peernet"].parameters, epochs=1)
    plain = json.loads(json.dumps(probed))
    probed["training"]["probes"] = [{"probe": "logit-distances", "every": 3}, {"probe": "epoch-time"}]
    for folder, asked in (("plain", plain), ("probed", probed)):
        assert train.main(command(asked, folder)) == 0
    one, other = contents(tmp_path / "plain"), contents(tmp_path / "probed")
    assert [name for name in one if one[name] != other[name]] == ["model.json", "trace.parquet"]


def test_preprocessing_is_fitted_on_all_training_images_whatever_the_entry_trains_on(prepared, make_entry, tiny_data):
    entry = make_entry(preprocessing="standardised", images=20)
    std = load_file(prepared(entry))["std"]
    images = store.load(tiny_data, "train").images().double() / 255
    assert std.item() == pytest.approx(float(images.std()), rel=1e-3)


def test_preparing_twice_gives_the_same_bytes(make_entry, tiny_data, tmp_path, capsys):
    arguments = ["--entry", json.dumps({"name": "mean-image"}), "--data", str(tiny_data)]
    for name in ("one", "other"):
        assert prepare.main([*arguments, "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert capsys.readouterr().out.startswith("mean-image: 784 numbers from 200 images of digits\n")
    assert prepare.main(["--entry", '{"name": "identity"}', *arguments[2:], "--out", str(tmp_path / "none")]) == 0
    assert load_file(tmp_path / "none") == {}


def test_a_preprocessing_that_does_not_fit_ends_in_one_line(command, make_entry, prepared, failure, tmp_path):
    good, other = make_entry(), make_entry(preprocessing="standardised")
    arguments = command(good, "out")
    place = arguments.index("--preprocessing") + 1
    assert "the model's entry asks for" in failure(
        train.main, [*arguments[:place], prepared(other), *arguments[place + 1 :]]
    )
    (tmp_path / "torn").write_bytes(prepared(good).read_bytes()[:50])
    assert "no readable preprocessing" in failure(
        train.main, [*arguments[:place], tmp_path / "torn", *arguments[place + 1 :]]
    )
    assert not (tmp_path / "out").exists()


def test_a_start_that_saw_another_preprocessing_is_refused(command, make_entry, failure, tmp_path):
    train.main(command(make_entry(epochs=0), "base"))
    facts = tmp_path / "base/model.json"
    facts.write_text(facts.read_text().replace(json.loads(facts.read_text())["preprocessing"]["sha256"], "0" * 64))
    arguments = command(make_entry(start="tiny-model", epochs=1), "out", start=facts.with_name("weights.safetensors"))
    assert "was trained with (wrong sha256)" in failure(train.main, arguments)


def test_the_state_of_an_unfinished_run_holds_no_preprocessing(command, make_entry, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Resume, "save", lambda self, tensors, facts: seen.append({*tensors}))
    train.main(command(make_entry(epochs=1), "out"))
    assert seen and not [name for name in seen[-1] if "mean" in name]


def test_a_last_batch_of_one_image_is_trained_on_or_ends_in_one_line(command, make_entry, failure):
    entry = make_entry("resnet-cifar", width=0.25, preprocessing="standardised", epochs=1, batch_size=199)
    entry["network"]["parameters"]["depth"] = 8
    assert train.main(command(entry, "maps")) == 0  # maps of more than one pixel can be normalised
    entry = make_entry("lenet5", defense="peernet", parameters=CASES["peernet"].parameters, epochs=1, batch_size=199)
    assert "leave a batch of one image" in failure(train.main, command(entry, "peers"))


class Viewing(torch.nn.Module):
    """A network that flattens maps by `view`."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = torch.nn.Conv2d(1, 4, 5, stride=3), torch.nn.Linear(256, 10)

    def forward(self, inputs):
        return self.last(self.conv(inputs).relu().view(len(inputs), -1))


def test_a_network_that_uses_view_is_trained_and_loaded(command, make_entry, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(registry.method("networks", "lenet"), "build", lambda *_: Viewing())
    entry = make_entry("lenet", epochs=3)
    train.main(command(entry, "out"))
    model, facts = load_model(tmp_path / "out/weights.safetensors", prepared(entry), CPU)
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 10) and facts["final"]["train_accuracy"] > 0.3


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(command, make_entry, tmp_path):
    entry = make_entry("lenet", width=0.3, epochs=6, batch_size=10, learning_rate=0.001)
    entry["training"]["probes"] = [{"probe": "logit-distances", "every": 7}, {"probe": "rho-2"}]
    train.main(command(entry, "whole"))
    environment = {**os.environ, "PYTHONPATH": str(Path(redoubt.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "redoubt.steps.train", *command(entry, "killed")],
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (states := list((tmp_path / "resume").glob("*/state.safetensors"))) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and states
    assert not (tmp_path / "killed").exists()
    train.main(command(entry, "killed"))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert not list((tmp_path / "resume").iterdir())


def test_bad_entries_end_in_one_line(command, make_entry, failure, tmp_path):
    good = make_entry()
    cases = {
        "{": "not JSON",
        "[1]": "expected a mapping",
        "{}": "id: this key is required",
        json.dumps({**good, "training": {**good["training"], "speed": 9}}): "training.speed: unknown key",
        json.dumps({**good, "training": {**good["training"], "epochs": -1}}): "training.epochs",
        json.dumps({**good, "network": {"name": "squeezenet", "parameters": {}}}): "'squeezenet' is not one of alexnet",
        json.dumps({**good, "network": {"name": "mlp", "parameters": {"width": 0}}}): "width",
        json.dumps({key: value for key, value in good.items() if key != "defense"}): "defense: this key is required",
    }
    for entry, message in cases.items():
        assert message in failure(train.main, command(entry, "out"))
        assert not (tmp_path / "out").exists()


def test_bad_starts_end_in_one_line(command, make_entry, failure, tmp_path):
    train.main(command(make_entry(epochs=0), "base"))
    weights = tmp_path / "base/weights.safetensors"
    tuned = make_entry(start="tiny-model", epochs=1)
    assert "starts from tiny-model" in failure(train.main, command(tuned, "out"))
    assert "starts from None" in failure(train.main, command(make_entry(), "out", start=weights))
    wider = make_entry(width=0.2, start="tiny-model", epochs=1)
    assert "fc1" in failure(train.main, command(wider, "out", start=weights))
    magnet = make_entry(width=0.2, start="tiny-model", defense="magnet", epochs=1)
    assert "do not fit" in failure(train.main, command(magnet, "out", start=weights))
    (tmp_path / "torn").write_bytes(weights.read_bytes()[:100])
    assert "no readable weights" in failure(train.main, command(tuned, "out", start=tmp_path / "torn"))
    assert "absent" in failure(train.main, command(tuned, "out", start=tmp_path / "absent"))
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite_writes_no_weights(command, make_entry, failure, tmp_path):
    entry = make_entry(epochs=5, learning_rate=1e30)
    assert "not finite" in failure(train.main, command(entry, "out"))
    assert not (tmp_path / "out").exists()


class Streamed(store.MemorySplit):
    """Images that are handed over batch by batch, as ImageNet's are."""

    in_memory = False


@pytest.mark.parametrize("defense", ["clean", "adversarial-training"])
def test_streamed_data_train_as_data_in_memory_do(defense, command, make_entry, tmp_path, monkeypatch):
    train.main(command(make_entry(epochs=2), "base"))
    parameters = {"iterations": 5} if defense == "adversarial-training" else {}
    entry = make_entry(start="tiny-model", defense=defense, parameters=parameters, epochs=1, learning_rate=0.0005)
    train.main(command(entry, "memory", start=tmp_path / "base/weights.safetensors"))
    load = store.load

    def streamed(folder, split):
        found = load(folder, split)
        return Streamed(found.images(), found.labels)

    monkeypatch.setattr(orchestration.store, "load", streamed)
    train.main(command(entry, "streamed", start=tmp_path / "base/weights.safetensors"))
    one, other = (pd.read_csv(tmp_path / name / "history.csv") for name in ("memory", "streamed"))
    assert other["train_loss"].iloc[-1] == pytest.approx(one["train_loss"].iloc[-1], rel=1e-3)


def test_a_defense_that_asks_for_all_inputs_refuses_streamed_data(command, make_entry, failure, tmp_path, monkeypatch):
    load = store.load
    monkeypatch.setattr(
        orchestration.store,
        "load",
        lambda folder, split: Streamed(load(folder, split).images(), load(folder, split).labels),
    )
    entry = make_entry("lenet5", defense="peernet", parameters=CASES["peernet"].parameters, epochs=1)
    assert "peernet needs all training images in memory" in failure(train.main, command(entry, "out"))


def test_stratified_draws_are_balanced_and_in_order():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 1])
    assert fitting.stratified(labels, 6).tolist() == [0, 1, 4, 5, 6, 7]
    assert fitting.stratified(labels, 4).tolist() == [0, 1, 4, 6]
    assert fitting.stratified(labels, 10).tolist() == list(range(10))
