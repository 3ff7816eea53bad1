"""A training that ends at an accuracy: at the first epoch that has it, interrupted or not."""

import pytest
import torch
from test_training import Fragile, Interrupted, net

from redoubt.errors import RedoubtError
from redoubt.files import read_json
from redoubt.study.entries.model import ModelEntry
from redoubt.training.fit import fit


@pytest.fixture
def data():
    labels = torch.arange(330) % 3
    images = torch.randn(330, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return images + 0.3 * labels.view(-1, 1, 1, 1), labels


def accuracies(history):
    return [row["test_accuracy"] for row in history]


def test_it_ends_at_the_first_epoch_that_has_the_accuracy(data, trainer, weights_bytes):
    whole = trainer(net(), "clean", {}, *data, epochs=6).run()
    reached = accuracies(whole)
    assert len(whole) == 7 and reached[3] > max(reached[:3])
    stopped, short = net(), net()
    history = trainer(stopped, "clean", {}, *data, epochs=6, stop_at={"accuracy": reached[3]}).run()
    assert str(history) == str(whole[:4])
    trainer(short, "clean", {}, *data, epochs=3).run()
    assert weights_bytes(stopped) == weights_bytes(short)
    never = trainer(net(), "clean", {}, *data, epochs=6, stop_at={"accuracy": 1.0}).run()
    assert str(never) == str(whole) and max(reached) < 1.0
    at_once = trainer(net(), "clean", {}, *data, epochs=6, stop_at={"accuracy": reached[0]}).run()
    assert str(at_once) == str(whole[:1])


@pytest.mark.parametrize("call", [26, 60, 80, 98])
def test_an_interrupted_one_ends_at_the_same_epoch(call, data, trainer, weights_bytes, tmp_path):
    reached = accuracies(trainer(net(), "clean", {}, *data, epochs=6).run())[3]
    options = {"epochs": 6, "stop_at": {"accuracy": reached}}
    whole = net()
    history = trainer(whole, "clean", {}, *data, **options).run()
    with pytest.raises(Interrupted):
        trainer(net(), "clean", {}, *data, tmp_path, wrap=lambda d: Fragile(d, call), **options).run()
    network = net()
    assert str(trainer(network, "clean", {}, *data, tmp_path, **options).run()) == str(history)
    assert weights_bytes(network) == weights_bytes(whole)
    again = net()  # its state was saved after the last epoch
    assert str(trainer(again, "clean", {}, *data, tmp_path, **options).run()) == str(history)
    assert weights_bytes(again) == weights_bytes(whole)


def test_the_model_says_how_many_steps_it_took(make_entry, tiny_data, prepared, tmp_path):
    entry = make_entry(epochs=4, stop_at={"accuracy": 0.01})
    fit(entry, 0, tiny_data, prepared(entry), tmp_path / "model", None, "cpu", 1, tmp_path / "resume")
    facts = read_json(tmp_path / "model/model.json")
    assert facts["steps"] == 0 and facts["final"]["epoch"] == 0.0
    entry = make_entry(epochs=1)
    fit(entry, 0, tiny_data, prepared(entry), tmp_path / "whole", None, "cpu", 1, tmp_path / "resume")
    assert read_json(tmp_path / "whole/model.json")["steps"] > 0


@pytest.mark.parametrize("value", [{}, {"accuracy": 0}, {"accuracy": 1.5}, {"loss": 0.1}, 0.4])
def test_an_accuracy_is_a_share(value, make_entry):
    entry = make_entry(epochs=4)
    with pytest.raises(RedoubtError, match="stop_at"):
        ModelEntry.parse({**entry, "training": {**entry["training"], "stop_at": value}})


def test_without_it_an_entry_is_as_before(make_entry):
    entry = make_entry(epochs=4)
    assert "stop_at" not in str(ModelEntry.parse(entry).dump())
