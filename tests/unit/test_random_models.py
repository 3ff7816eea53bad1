"""Attacks on models that change with each call: the mean over draws, and scoring by repeated draws."""

import json
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch

from redoubt.attacks.interface import Crafted
from redoubt.errors import RedoubtError
from redoubt.evaluation import run as attacking
from redoubt.evaluation.craft import craft
from redoubt.evaluation.expectation import Expectation
from redoubt.models import classifier
from redoubt.networks._random import MeanOfDraws, without_noise
from redoubt.study.entries.attack import AttackEntry
from redoubt.training.fit import fit


class Noisy(torch.nn.Module):
    """An affine network whose inputs get noise, drawn for every image of every call."""

    def __init__(self, size=4, scale=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(size, 3, generator=torch.Generator().manual_seed(0)))
        self.scale, self.calls = scale, []

    def forward(self, inputs):
        noise = torch.randn(inputs.shape)
        self.calls.append(noise)
        return ((inputs + self.scale * noise).flatten(1) ** 2) @ self.weight


def test_each_copy_has_draws_of_its_own():
    network, inputs = Noisy(), torch.rand(5, 4)
    torch.manual_seed(0)
    mean = Expectation(network, 7)(inputs)
    (noise,) = network.calls
    assert noise.shape == (35, 4) and torch.unique(noise, dim=0).shape == (35, 4)
    each = ((inputs + noise.view(7, 5, 4)) ** 2) @ network.weight
    assert torch.allclose(mean, each.mean(0), atol=1e-5)
    assert abs(torch.corrcoef(noise.view(7, 20))[0, 1]) < 0.7


def test_a_model_that_draws_once_a_call_is_called_for_each_copy():
    network, inputs = Noisy(), torch.rand(5, 4)
    torch.manual_seed(0)
    mean = Expectation(network, 7, together=False)(inputs)
    assert [noise.shape for noise in network.calls] == [(5, 4)] * 7
    each = ((inputs + torch.stack(network.calls)) ** 2) @ network.weight
    assert torch.allclose(mean, each.mean(0), atol=1e-5)


@pytest.mark.parametrize("together", [True, False])
def test_gradients_approach_that_of_the_expectation(together):
    network, inputs = Noisy(), torch.rand(1, 4)
    exact = 2 * inputs * network.weight[:, 0].detach()  # the noise has mean zero
    torch.manual_seed(0)
    errors = {}
    for draws in (10, 1000):
        sizes = []
        for _ in range(20):
            points = inputs.clone().requires_grad_()
            gradient = torch.autograd.grad(Expectation(network, draws, together)(points)[0, 0], points)[0]
            sizes.append((gradient - exact).norm())
        errors[draws] = torch.stack(sizes).mean()
    assert 5 < errors[10] / errors[1000] < 20  # as 1 / sqrt(draws)


def test_a_prediction_by_the_mean_of_draws_is_the_mean_of_their_probabilities():
    network, inputs = MeanOfDraws(Noisy(), 5).eval(), torch.rand(3, 4)
    torch.manual_seed(0)
    prediction = network(inputs)
    each = torch.stack([((inputs + noise) ** 2) @ network.network.weight for noise in network.network.calls])
    assert len(each) == 5 and torch.allclose(prediction.exp(), each.softmax(2).mean(0), atol=1e-6)
    network.train()(inputs)
    assert len(network.network.calls) == 6


def test_noise_is_off_for_a_while():
    network = torch.nn.Sequential(Noisy(), torch.nn.ReLU())
    with pytest.raises(RedoubtError, match="no layer whose noise can be switched off"), without_noise(network[1]):
        pass
    network[0].still = False
    with pytest.raises(ZeroDivisionError), without_noise(network):
        assert network[0].still
        raise ZeroDivisionError
    assert not network[0].still


class Shaken(torch.nn.Module):
    """An affine network on squared inputs whose noise is drawn once a call, the same for all images of the batch."""

    def __init__(self, features=4, classes=3):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(features, classes, generator=torch.Generator().manual_seed(0)))
        self.calls = []

    def forward(self, inputs):
        noise = torch.randn(1, *inputs.shape[1:])
        self.calls.append((len(inputs), noise))
        return ((inputs + noise).flatten(1) ** 2) @ self.weight


def test_only_calls_of_their_own_average_a_model_that_draws_once_a_call():
    network, inputs = Shaken(), torch.rand(1, 4)
    exact = 2 * inputs * network.weight[:, 0].detach()
    torch.manual_seed(0)
    errors = {}
    for together in (True, False):
        for draws in (1, 100):
            sizes = []
            for _ in range(30):
                points = inputs.clone().requires_grad_()
                gradient = torch.autograd.grad(Expectation(network, draws, together)(points)[0, 0], points)[0]
                sizes.append((gradient - exact).norm())
            errors[together, draws] = torch.stack(sizes).mean()
    assert 5 < errors[False, 1] / errors[False, 100] < 20  # as 1 / sqrt(draws)
    assert 0.7 < errors[True, 1] / errors[True, 100] < 1.4  # one draw, copied


@pytest.mark.parametrize(("switch", "calls"), [({"draws_apart": True}, [7] * 4), ({"draws_apart": False}, [28])])
def test_the_entry_tells_draws_apart(
    switch, calls, tiny_data, make_entry, prepared, make_attack, tmp_path, monkeypatch
):
    fit(make_entry(), 0, tiny_data, prepared(make_entry()), tmp_path / "model", None, "cpu", 1, tmp_path / "resume")
    network, load = Shaken(784, 10), attacking.load_model

    def shaken(weights, preprocessing, where):
        model, facts = load(weights, preprocessing, where)
        model.network = network.eval()
        return model, facts

    monkeypatch.setattr(attacking, "load_model", shaken)
    entry = make_attack("fgs", parameters={"epsilons": [0.1]}, draws=4, select={"images": 7}, **switch)
    attacking.attack(
        entry, 0, tiny_data, tmp_path / "model/weights.safetensors", prepared(make_entry()), tmp_path / "rows.parquet"
    )
    _, *made = network.calls  # the first call is to check the model
    crafting, scoring = made[: len(calls)], made[len(calls) :]
    assert [size for size, _ in crafting] == calls and [size for size, _ in scoring] == [7, 7]
    assert len(torch.unique(torch.stack([noise for _, noise in network.calls]), dim=0)) == len(network.calls)


def test_more_draws_make_a_stronger_attack(digit_images):
    images, labels = digit_images[0][:1].expand(200, -1, -1, -1), torch.zeros(200, dtype=torch.int64)
    weight = torch.randn(784, generator=torch.Generator().manual_seed(0)) / 28

    class Fragile(torch.nn.Module):
        def forward(self, inputs):  # a gradient of one draw says little of the next
            noise = torch.randn(len(inputs), 784)
            score = (inputs.flatten(1) @ weight) + (inputs.flatten(1) * noise).sum(1)
            return torch.stack([torch.zeros(len(inputs)) + 0.3, score], 1)

    network = Fragile().eval()
    options = {"epsilons": [0.1], "steps": 1, "random_start": False, "stop": False}
    torch.manual_seed(0)
    drift = {}
    for draws in (1, 100):
        moved = craft("pgd", Expectation(network, draws), images, labels, **options).images - images
        drift[draws] = float((moved.flatten(1) @ weight).mean())
    assert drift[100] > 2 * drift[1] > 0


class Random(torch.nn.Module):
    """Predicts one of two classes, by the toss of a coin for every image of every call."""

    def forward(self, inputs):
        coin = torch.rand(len(inputs), 1) + 0 * inputs.flatten(1).sum(1, keepdim=True)
        return torch.cat([coin, 1 - coin], 1)


def test_every_repetition_is_scored_by_draws_of_its_own():
    victim = SimpleNamespace(network=Random(), detector=None, predicted=lambda start, inputs: None)
    inputs = torch.rand(50, 1, 2, 2)
    batch = {"inputs": inputs, "labels": torch.zeros(50, dtype=torch.int64), "positions": torch.arange(50)}
    torch.manual_seed(0)
    frames = list(
        attacking.rows_of(victim, Crafted(0, inputs), batch, AttackEntry(id="a", attack="fgs", repetitions=20))
    )
    assert [frame["repetition"].unique().tolist() for frame in frames] == [[n] for n in range(20)]
    labels = torch.tensor([frame["adversarial_label"].tolist() for frame in frames])
    clean = torch.tensor([frame["clean_label"].tolist() for frame in frames])
    for column in (labels, clean):
        assert 0.3 < column.float().mean() < 0.7 and torch.unique(column, dim=0).shape == (20, 50)
    assert (frames[0]["success"] == (frames[0]["adversarial_label"] != frames[0]["clean_label"])).all()


@pytest.mark.parametrize("random", [True, False])
def test_a_random_model_is_asked_about_clean_images_in_every_repetition(
    random, tiny_data, make_entry, make_attack, tmp_path, monkeypatch
):
    entry = make_entry()
    entry["defense"] |= {"draws": "image"} if random else {}
    facts = {"entry": entry, "shape": [1, 28, 28], "classes": ["0", "1"]}
    model = classifier.build(entry, (1, 28, 28), 10).eval()
    model.network = torch.nn.Sequential(Random(), torch.nn.ConstantPad1d((0, 8), 0.0)).eval()
    monkeypatch.setattr(attacking, "load_model", lambda weights, preprocessing, where: (model, facts))
    attack = make_attack("fgs", parameters={"epsilons": [0.0]}, repetitions=8, select={"images": 12})
    frame = attacking.attack(attack, 0, tiny_data, tmp_path / "none", tmp_path / "none", tmp_path / "rows.parquet")
    assert (frame.groupby("index")["clean_label"].nunique().max() > 1) == random


def test_rows_carry_the_repetition(tiny_data, make_entry, prepared, make_attack, tmp_path, monkeypatch):
    fit(make_entry(), 0, tiny_data, prepared(make_entry()), tmp_path / "model", None, "cpu", 1, tmp_path / "resume")
    seen, inner = [], attacking.Expectation

    class Watched(inner):
        def __init__(self, network, draws, together):
            seen.append((draws, together))
            super().__init__(network, draws, together)

    monkeypatch.setattr(attacking, "Expectation", Watched)
    entry = make_attack("fgs", parameters={"epsilons": [0.1, 0.2]}, repetitions=3, draws=4, select={"images": 7})
    out = tmp_path / "rows.parquet"
    attacking.attack(entry, 0, tiny_data, tmp_path / "model/weights.safetensors", prepared(make_entry()), out)
    frame = pq.read_table(out).to_pandas()
    assert seen == [(4, True)] and json.loads(pq.read_schema(out).metadata[b"attack"])["repetitions"] == 3
    assert len(frame) == 2 * 3 * 7
    assert (frame.groupby(["epsilon", "repetition"])["index"].apply(list) == [[*range(7)]] * 6).all()


def test_one_draw_is_the_model_itself(mlp, digit_images):
    images, labels = (part[:10] for part in digit_images)
    plain, mean = (craft("fgs", model, images, labels, epsilons=[0.1]).images for model in (mlp, Expectation(mlp, 3)))
    assert (plain - mean).abs().max() < 1e-6
