"""The attack step from the command line, on a model trained for seconds."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from redoubt.data import store
from redoubt.errors import RedoubtError
from redoubt.evaluation import run as attacking
from redoubt.evaluation.victim import Victim
from redoubt.models.classifier import Classifier
from redoubt.models.weights import load_model
from redoubt.rows import read_rows, read_shared
from redoubt.steps import attack, train

COLUMNS = ["index", "label", "clean_label", "adversarial_label", "success", "l2", "linf", "x_l2", "x_linf", "loss"]


@pytest.fixture(scope="session")
def other(tiny_data, tmp_path_factory, make_entry, prepare_once):
    """Function (model's id, changes of its entry) that trains a model on 200 digits and returns its weights."""

    def make(name, **changes):
        folder = tmp_path_factory.mktemp("model")
        entry = {**make_entry(epochs=6, **changes), "id": name}
        common = ["--data", tiny_data, "--device", "cpu", "--resume", folder / "resume"]
        common += ["--folder", folder / "m", "--preprocessing", prepare_once(entry)]
        train.main(["--entry", json.dumps(entry), *map(str, common)])
        return folder / "m/weights.safetensors"

    return make


@pytest.fixture(scope="session")
def weights(other):
    return other("tiny-model")


@pytest.fixture
def preprocessing(prepare_once, make_entry):
    """The file of what the model's preprocessing learned."""
    return prepare_once(make_entry())


@pytest.fixture
def command(tiny_data, tmp_path, weights, preprocessing):
    def make(entry, out="rows.parquet", **changes):
        text = entry if isinstance(entry, str) else json.dumps(entry)
        options = {"data": tiny_data, "weights": weights, "out": tmp_path / out, **changes}
        options = {"preprocessing": preprocessing, **options}
        reads = options.pop("reads", [])
        flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return ["--entry", text, *flags, "--device", "cpu", *(["--reads", *map(str, reads)] if reads else [])]

    return make


def test_rows_and_metadata(command, make_attack, weights, tmp_path, capfd):
    before = weights.read_bytes(), sorted(path.name for path in weights.parent.iterdir())
    entry = make_attack(parameters={"iterations": 20})
    assert attack.main(command(entry)) == 0
    out, err = capfd.readouterr()
    assert out.startswith("deepfool-test: 40 rows, accuracy under attack 0.") and err == ""
    assert (weights.read_bytes(), sorted(path.name for path in weights.parent.iterdir())) == before
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert list(rows.columns) == COLUMNS and rows["index"].tolist() == list(range(40))
    assert (rows["success"] == (rows["adversarial_label"] != rows["clean_label"])).all()
    assert rows["success"].mean() > 0.9 and (rows["clean_label"] == rows["label"]).mean() > 0.6
    assert (rows["l2"] > 0).all() and (rows["x_l2"] > 500).all() and (rows["x_linf"] <= 255).all()
    facts = pq.read_table(tmp_path / "rows.parquet").schema.metadata
    assert facts[b"model"] == b"tiny-model" and json.loads(facts[b"attack"]) == entry
    assert read_rows(tmp_path / "rows.parquet").attrs["shape"] == [1, 28, 28]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_same_command_same_bytes(command, make_attack, tmp_path):
    for name in ("a", "b"):
        attack.main(command(make_attack("fgs", parameters={"epsilons": [10.0]}), name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("space", ["pixels", "preprocessed"])
def test_engines_agree_in_both_spaces(space, command, make_attack, tmp_path):
    for engine in ("redoubt", "foolbox"):
        entry = make_attack(space=space, engine=engine, parameters={"iterations": 20, "candidates": 5})
        attack.main(command(entry, engine))
    one, other = (pd.read_parquet(tmp_path / engine) for engine in ("redoubt", "foolbox"))
    assert one["x_l2"].equals(other["x_l2"]) and (one["x_linf"].max() <= 1) == (space == "pixels")
    assert (one["success"] != other["success"]).sum() <= 2
    assert one["l2"].mean() == pytest.approx(other["l2"].mean(), rel=0.02)
    assert one["success"].mean() > (0.8 if space == "pixels" else 0.9)


def test_selection_by_label(command, make_attack, tmp_path, tiny_data):
    attack.main(command(make_attack(select={"images": 3, "label": 7})))
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert rows["label"].tolist() == [7] * 3 and rows["index"].is_monotonic_increasing


@pytest.mark.parametrize("split", ["test", "train"])
def test_selection_by_split(split, command, make_attack, tmp_path, tiny_data):
    attack.main(command(make_attack("fgs", parameters={"epsilons": [0.0]}, select={"images": 9, "split": split})))
    rows, labels = pd.read_parquet(tmp_path / "rows.parquet"), store.load(tiny_data, split).labels
    assert rows["label"].tolist() == labels[:9].tolist()
    assert labels[:9].tolist() != store.load(tiny_data, {"test": "train", "train": "test"}[split]).labels[:9].tolist()


def test_reads_carry_an_epsilon_over(command, make_attack, tmp_path):
    attack.main(command(make_attack("fgs", parameters={"error": 0.5, "loss": "log-odds"}), "half"))
    half = pd.read_parquet(tmp_path / "half")
    assert half["epsilon"].nunique() == 1
    wrong = (half["adversarial_label"] != half["label"]).sum()
    assert wrong == 20 and (half["linf"] <= half["epsilon"] * (1 + 1e-4)).all()
    assert (half["linf"] >= half["epsilon"] * (1 - 1e-4)).all()
    entry = make_attack("fgs", id="fgs-reference", parameters={"fractions": [0.5, 1.0], "loss": "log-odds"})
    attack.main(command(entry, reads=[tmp_path / "half"]))
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert len(rows) == 80 and rows["fraction"].tolist() == [0.5] * 40 + [1.0] * 40
    assert rows["epsilon"].unique() == pytest.approx([half["epsilon"][0] / 2, half["epsilon"][0]])
    whole = rows[rows["fraction"] == 1.0]
    assert whole["adversarial_label"].tolist() == half["adversarial_label"].tolist()


def test_kept_images_can_be_replayed(command, make_attack, tmp_path):
    attack.main(command(make_attack(keep_images=True, select={"images": 5}), "examples"))
    stored, rows = pd.read_parquet(tmp_path / "examples"), read_rows(tmp_path / "examples")
    assert {"clean", "picture", "image"} < set(stored) and stored["clean"][0].dtype == np.uint8
    pictures, clean = np.stack(rows["picture"]), np.stack(rows["clean_picture"])
    assert pictures.shape == (5, 784) and clean.min() == 0 and 0.9 < clean.max() <= 1
    assert 255 * np.linalg.norm(pictures - clean, axis=1) == pytest.approx(rows["l2"].to_numpy(), rel=1e-3)
    attack.main(command(make_attack("replay", select={"images": 5}), "replayed", reads=[tmp_path / "examples"]))
    replayed = pd.read_parquet(tmp_path / "replayed")
    assert replayed["source"].tolist() == ["tiny-model"] * 5
    assert replayed["adversarial_label"].tolist() == rows["adversarial_label"].tolist()
    assert replayed["l2"].to_numpy() == pytest.approx(rows["l2"].to_numpy(), rel=1e-5)


def test_kept_pictures_are_stored_once(command, make_attack, tmp_path, tiny_data):
    attack.main(command(make_attack(space="pixels", keep_images=True, select={"images": 5})))
    stored, rows = pd.read_parquet(tmp_path / "rows.parquet"), read_rows(tmp_path / "rows.parquet")
    images = {name for name in stored if isinstance(stored[name][0], np.ndarray)}
    assert images == {"clean", "picture"} and stored["clean"][0].dtype == np.uint8
    clean, picture, image = (np.stack(rows[name]) for name in ("clean_picture", "picture", "image"))
    expected = store.load(tiny_data, "test").images(slice(0, 5)).flatten(1).float() / 255
    assert np.array_equal(clean, expected.numpy()) and np.array_equal(picture, image) and "clean" not in rows
    assert np.linalg.norm(picture - clean, axis=1) == pytest.approx(rows["l2"].to_numpy(), rel=1e-4)


def test_the_loss_is_that_of_the_true_label(command, make_attack, weights, preprocessing, tmp_path):
    attack.main(command(make_attack("fgs", parameters={"epsilons": [0.1]}, space="pixels", keep_images=True)))
    rows, (model, _) = read_rows(tmp_path / "rows.parquet"), load_model(weights, preprocessing, torch.device("cpu"))
    pictures = torch.from_numpy(np.stack(rows["picture"])).view(-1, 1, 28, 28)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(pictures), torch.tensor(rows["label"]), reduction="none")
    assert rows["loss"].to_numpy() == pytest.approx(loss.numpy(), rel=1e-4, abs=1e-6) and loss.max() > 1


@pytest.fixture(scope="session")
def source(other):
    return other("other-model", width=0.15)


@pytest.mark.parametrize("space", ["pixels", "preprocessed"])
def test_examples_of_another_model_are_scored_on_this_one(
    space, command, make_attack, source, weights, preprocessing, tmp_path
):
    entry = make_attack(parameters={"iterations": 20}, space=space, keep_images=True)
    attack.main(command(entry, "source", weights=source))
    attack.main(command(entry, "transfer", **{"crafted-on": source}))
    own, rows = (read_rows(tmp_path / name) for name in ("source", "transfer"))
    assert np.array_equal(np.stack(own["picture"]), np.stack(rows["picture"])) and own["l2"].equals(rows["l2"])
    model, _ = load_model(weights, preprocessing, torch.device("cpu"))
    with torch.no_grad():
        pictures = torch.from_numpy(np.stack(rows["picture"])).view(-1, 1, 28, 28)
        assert rows["adversarial_label"].tolist() == model(pictures).argmax(1).tolist()
        clean = torch.from_numpy(np.stack(rows["clean_picture"])).view(-1, 1, 28, 28)
        assert rows["clean_label"].tolist() == model(clean).argmax(1).tolist()
    assert own["success"].mean() > 0.9 > rows["success"].mean() + 0.2
    assert set(rows["model"]) == {"tiny-model"} and rows.attrs["crafted_on"] == "other-model"
    assert set(own["model"]) == {"other-model"} and "crafted_on" not in own.attrs


def test_draws_are_those_of_the_model_that_examples_are_crafted_on(command, make_attack, source, tmp_path):
    entry = make_attack("pgd", parameters={"epsilons": [0.1], "stop": False}, space="pixels", keep_images=True)
    attack.main(command(entry, "source", weights=source))
    attack.main(command(entry, "transfer", **{"crafted-on": source}))
    own, rows = (read_rows(tmp_path / name) for name in ("source", "transfer"))
    assert np.array_equal(np.stack(own["picture"]), np.stack(rows["picture"]))


def test_universal_perturbations_transfer(command, make_attack, source, tmp_path):
    entry = make_attack("universal", parameters={"rhos": [0.6], "passes": 1}, space="pixels")
    attack.main(command(entry, "source", weights=source))
    attack.main(command(entry, "transfer", **{"crafted-on": source}))
    own, moved = (read_shared(tmp_path / name) for name in ("source", "transfer"))
    assert np.array_equal(own["rho-0.6"], moved["rho-0.6"]) and own["rho-0.6"].any()


def test_models_with_other_inputs_do_not_exchange_examples(command, make_attack, other, failure, tmp_path):
    given = {"crafted-on": other("other-model", preprocessing="identity")}
    line = failure(attack.main, command(make_attack(), "out.parquet", **given))
    assert "crafted on other-model, scored on tiny-model" in line and "use space: pixels" in line
    attack.main(command(make_attack(space="pixels"), "out.parquet", **given))
    facts = json.loads((given["crafted-on"].parent / "model.json").read_text())
    (given["crafted-on"].parent / "model.json").write_text(json.dumps({**facts, "classes": [*"9876543210"]}))
    assert "different classes" in failure(attack.main, command(make_attack(space="pixels"), "out2.parquet", **given))


def test_gradients_that_are_not_finite_are_counted(
    command, make_attack, tmp_path, monkeypatch, weights, preprocessing, capfd
):
    model, facts = load_model(weights, preprocessing, torch.device("cpu"))
    model.preprocessing.forward = lambda images: 255 * (images**2).sqrt() - model.preprocessing.mean
    monkeypatch.setattr(attacking, "load_model", lambda *_: (model, facts))
    attack.main(command(make_attack("fgs", parameters={"epsilons": [0.1]}, space="pixels")))
    assert "; 100.0% of the gradients were not finite and were taken beside the point" in capfd.readouterr().out
    assert read_rows(tmp_path / "rows.parquet").attrs["nonfinite_gradients"] == 1.0


def test_failures_are_one_line_and_leave_no_file(command, make_attack, failure, tmp_path, weights, make_entry):
    good = make_attack()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/weights.safetensors").write_bytes(weights.read_bytes())
    other = tmp_path / "other"
    other.mkdir()
    facts = json.loads((weights.parent / "model.json").read_text())
    facts["entry"]["network"]["parameters"]["width"] = 0.3
    (other / "model.json").write_text(json.dumps(facts))
    (other / "weights.safetensors").write_bytes(weights.read_bytes())
    cases = [
        ("{", {}, "not JSON"),
        ("{}", {}, "id: this key is required"),
        ({**good, "attack": "magic"}, {}, "'magic' is not one of apgd, carlini-wagner, "),
        ({**good, "parameters": {"iterations": 0}}, {}, "iterations"),
        ({**good, "select": {"images": 3, "label": 11}}, {}, "no test image is left by {label: 11}"),
        (good, {"weights": tmp_path / "absent/weights.safetensors"}, "model.json: no such file"),
        (good, {"weights": tmp_path / "bare/weights.safetensors"}, "model.json: no such file"),
        (good, {"weights": other / "weights.safetensors"}, "fc1"),
        (good, {"data": tmp_path / "nothing"}, "meta.json: no such file"),
        (make_attack("replay"), {}, "keep_images"),
        (make_attack("fgs", parameters={"fractions": [1.0]}), {}, "reads"),
        (
            make_attack("fgs", parameters={"fractions": [1.0]}),
            {"reads": [tmp_path / "gone"]},
            "run the attack again",
        ),
    ]
    for entry, changes, message in cases:
        assert message in failure(attack.main, command(entry, "out.parquet", **changes)), message
        assert not (tmp_path / "out.parquet").exists()


def test_data_of_another_shape_are_refused(command, make_attack, failure, tmp_path):
    split = {"images": np.zeros((4, 3, 32, 32), np.uint8), "labels": np.arange(4)}
    meta = {"name": "other", "title": "Other", "shape": [3, 32, 32], "classes": [str(n) for n in range(10)]}
    store.publish(tmp_path / "colour", {"train": split, "test": split}, meta)
    line = failure(attack.main, command(make_attack(), "out.parquet", data=tmp_path / "colour"))
    assert "(3, 32, 32)" in line and "(1, 28, 28)" in line and not (tmp_path / "out.parquet").exists()


def test_a_loaded_model_is_in_eval_mode(weights, preprocessing):
    model, facts = load_model(weights, preprocessing, torch.device("cpu"))
    assert not any(module.training for module in model.modules()) and facts["shape"] == [1, 28, 28]


def test_straight_through_is_refused_where_nothing_could_be_passed_by(command, make_attack):
    entry = make_attack("fgs", parameters={"epsilons": [10.0]}) | {"gradient": "straight-through"}
    with pytest.raises(RedoubtError, match="no layer that gradients could pass by"):
        attack.main(command(entry))


def test_clean_images_are_classified_once(monkeypatch, command, make_attack, tmp_path):
    calls = []
    original = attacking.score
    monkeypatch.setattr(attacking, "score", lambda *given: calls.append(given[4]) or original(*given))
    attack.main(command(make_attack("fgs", parameters={"epsilons": [1.0, 10.0, 20.0]})))
    assert len(calls) == 3 and all(known is calls[0] for known in calls)
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert rows.groupby("index")["clean_label"].nunique().max() == 1


def test_a_random_model_is_asked_anew_each_time():
    class Coin(torch.nn.Module):
        def forward(self, inputs):
            return torch.rand(len(inputs), 10)

    model = Classifier(torch.nn.Identity(), Coin())
    inputs = torch.rand(200, 1, 2, 2)
    assert Victim(model, "pixels", random=True).predicted(0, inputs) is None
    fixed = Victim(model, "pixels")
    assert torch.equal(fixed.predicted(0, inputs), fixed.predicted(0, inputs))
    assert not torch.equal(fixed.predicted(0, inputs), fixed.predicted(200, inputs))


def test_the_worst_of_several_reads_their_files(command, tmp_path, make_attack):
    """The finished rows of two attacks; the second has more images, of which the first ones count."""
    options = {"epsilons": [2.0, 8.0], "steps": 2}
    members = {
        "pgd-test": make_attack("pgd", parameters={**options, "relative_step_size": 0.5}),
        "apgd-test": make_attack("apgd", parameters=options, select={"images": 60}),
    }
    for name, entry in members.items():
        assert attack.main(command(entry, f"{name}.parquet")) == 0
    worst = make_attack("worst-of", parameters={"by": "wrong", "sweep": "epsilon"})
    files = [tmp_path / f"{name}.parquet" for name in members]
    assert attack.main(command(worst, "worst.parquet", reads=files)) == 0
    found = read_rows(tmp_path / "worst.parquet")
    assert found.attrs["attack"]["id"] == "worst-of-test" and found["model"].unique().tolist() == ["tiny-model"]
    own = [read_rows(file) for file in files]
    assert found["index"].tolist() == own[0]["index"].tolist() and len(found) == 80
    right = [
        part[part["index"] < 40]
        .groupby("epsilon")
        .apply(lambda rows: (rows["adversarial_label"] == rows["label"]).mean())
        for part in own
    ]
    kept = found.groupby("epsilon").apply(lambda rows: (rows["adversarial_label"] == rows["label"]).mean())
    assert (kept <= np.minimum(*right)).all() and set(found["decided_by"].dropna()) <= {*members}
    assert found["queries"].tolist() == own[1].loc[own[1]["index"] < 40, "queries"].tolist()
    with pytest.raises(RedoubtError, match="pgd-test is given twice"):
        attack.main(command(worst, "twice.parquet", reads=[files[0], files[0]]))
    short = make_attack("worst-of", parameters={"by": "wrong", "sweep": "epsilon"}, select={"images": None})
    with pytest.raises(RedoubtError, match="the 60 images of apgd-test are not the 40 of pgd-test"):
        attack.main(command(short, "short.parquet", reads=files))


def test_the_worst_of_attacks_on_another_model_is_refused(command, other, tmp_path, make_attack):
    assert attack.main(command(make_attack("deepfool"), "own.parquet")) == 0
    worst = make_attack("worst-of", parameters={"by": "l2"})
    with pytest.raises(RedoubtError, match="has the rows of tiny-model, not of another"):
        attack.main(command(worst, reads=[tmp_path / "own.parquet"], weights=other("another")))
