"""Images that are held out of a training: which they are, that nothing learns from them, and what is measured."""

import csv
import json

import pytest
import torch

from redoubt.data import store
from redoubt.data.subsets import held_out, stratified
from redoubt.errors import RedoubtError
from redoubt.evaluation.victim import attacked_images
from redoubt.models.weights import load_model
from redoubt.study.entries.attack import Select
from redoubt.study.entries.model import Training
from redoubt.training import fit as orchestration
from redoubt.training.data import TrainingData
from redoubt.training.loop import Trainer

CPU = torch.device("cpu")


def test_the_last_images_of_every_class_by_its_share():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1])  # eight of class 0, four of class 1
    assert held_out(labels, 3).tolist() == [8, 10, 11]
    assert held_out(labels, 6).tolist() == [6, 7, 8, 9, 10, 11]
    assert held_out(labels, 0.25).tolist() == held_out(labels, 3).tolist()
    assert held_out(labels, 0.01).tolist() == [] and held_out(labels, 100).tolist() == list(range(12))


@pytest.mark.parametrize("validation", [1, 30, 0.2])
def test_what_is_held_out_is_not_trained_on(validation, tiny_data):
    split = store.load(tiny_data, "train")
    made = TrainingData(split, None, validation, torch.nn.Identity(), CPU)
    count = {1: 1, 30: 30, 0.2: 40}[validation]
    assert len(made.held) == count and sorted([*made.held, *made.positions]) == list(range(200))
    assert torch.equal(made.labels, split.labels[made.positions])
    shares = (split.labels[made.held].bincount(minlength=10) / split.labels.bincount()).tolist()
    assert max(shares) - min(shares) < 0.09  # no class differs by more than an image or two
    few = TrainingData(split, 50, validation, torch.nn.Identity(), CPU)
    assert torch.equal(few.held, made.held)  # whatever the number of images that are trained on
    assert few.positions.tolist() == stratified(split.labels, 50).tolist()


def test_nothing_is_held_out_by_default(tiny_data):
    made = TrainingData(store.load(tiny_data, "train"), None, None, torch.nn.Identity(), CPU)
    assert len(made.held) == 0 and made.positions.tolist() == list(range(200))
    assert Training(epochs=1, batch_size=1, learning_rate=1).validation is None


def test_holding_out_everything_is_refused(tiny_data):
    with pytest.raises(RedoubtError, match=r"^training\.validation: 200 holds out all 200 training images"):
        TrainingData(store.load(tiny_data, "train"), None, 200, torch.nn.Identity(), CPU)
    for wrong in (0, -1, 1.5, 0.0):
        with pytest.raises(ValueError, match="validation"):
            Training(epochs=1, batch_size=1, learning_rate=1, validation=wrong)


@pytest.fixture
def train(prepared, tiny_data, tmp_path):
    """Function (entry, folder, data) that trains from the command's function; it returns the folder."""

    def run(entry, name, data=tiny_data):
        orchestration.fit(
            entry, 0, data, prepared(entry), tmp_path / name, device_name="cpu", resume_root=tmp_path / "resume"
        )
        return tmp_path / name

    return run


def history(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def test_training_is_that_on_a_dataset_without_them(train, make_entry, prepared, tiny_data, tmp_path):
    split = store.load(tiny_data, "train")
    kept = torch.ones(200, dtype=torch.bool)
    kept[held_out(split.labels, 30)] = False
    test = store.load(tiny_data, "test")
    splits = {
        "train": {"images": split.images()[kept].numpy(), "labels": split.labels[kept].numpy()},
        "test": {"images": test.images().numpy(), "labels": test.labels.numpy()},
    }
    meta = {"name": "digits", "title": "Digits", "shape": [1, 28, 28], "classes": [str(n) for n in range(10)]}
    store.publish(tmp_path / "smaller", splits, meta)
    entry, plain = make_entry(preprocessing="identity", validation=30), make_entry(preprocessing="identity")
    one = train(entry, "held")
    digest = json.loads((tiny_data / "meta.json").read_text())["sha256"]["train"]
    with pytest.MonkeyPatch.context() as patch:  # identity learns nothing, whatever its data
        patch.setattr(orchestration, "train_digest", lambda meta: digest)
        other = train(plain, "smaller-model", tmp_path / "smaller")
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    rows, fewer = history(one), history(other)
    assert [{key: row[key] for key in fewer[0]} for row in rows] == fewer
    assert set(rows[0]) - set(fewer[0]) == {"validation_images", "validation_accuracy"}


def test_the_history_measures_what_is_held_out(train, make_entry, prepared, tiny_data):
    entry = make_entry(validation=0.3, track={"images": 20}, epochs=3)
    folder = train(entry, "model")
    rows = history(folder)
    assert len(rows) == 4 and {row["validation_images"] for row in rows} == {"60.0"}
    assert {row["test_images"] for row in rows} == {"20.0"}
    model, facts = load_model(folder / "weights.safetensors", prepared(entry), CPU)
    split = store.load(tiny_data, "train")
    held = held_out(split.labels, 0.3)
    with torch.no_grad():
        right = model(split.images(held).float() / 255).argmax(1) == split.labels[held]
    assert float(rows[-1]["validation_accuracy"]) == pytest.approx(float(right.float().mean()), abs=1e-6)
    assert facts["entry"]["training"]["validation"] == 0.3 and facts["steps"] == 3 * 7
    assert "validation" not in make_entry()["training"]


def test_an_attack_finds_the_images_that_its_model_was_not_trained_on(tiny_data):
    split = store.load(tiny_data, "train")
    facts = {"shape": list(split.images(slice(0, 1)).shape[1:]), "entry": {"training": {"validation": 0.3}}}
    select = Select(split="validation", images=7)
    found = attacked_images(tiny_data, select, facts, tiny_data, CPU)
    held = held_out(split.labels, 0.3)
    assert found.positions.tolist() == held[:7].tolist()
    assert torch.equal(found.stored, split.images(held[:7])) and torch.equal(found.labels, split.labels[held[:7]])
    others = select.model_copy(update={"not_label": int(split.labels[held[0]])})
    assert (
        attacked_images(tiny_data, others, facts, tiny_data, CPU).positions[0]
        == held[1:][split.labels[held[1:]] != split.labels[held[0]]][0]
    )
    with pytest.raises(RedoubtError, match=r"its training held no images out; give the model training\.validation"):
        attacked_images(tiny_data, select, facts | {"entry": {"training": {}}}, tiny_data, CPU)


def test_an_interrupted_training_ends_with_the_same_files(train, make_entry, monkeypatch):
    entry = make_entry(validation=40, epochs=3)
    whole = train(entry, "whole")
    finish, ended = Trainer._finish_epoch, []

    def breaking(self):
        finish(self)
        ended.append(self.done)
        if len(ended) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_finish_epoch", breaking)
    with pytest.raises(KeyboardInterrupt):
        train(entry, "resumed")
    resumed = train(entry, "resumed")
    assert ended == [8, 16, 24]
    for name in ("weights.safetensors", "history.csv", "trace.parquet", "model.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
