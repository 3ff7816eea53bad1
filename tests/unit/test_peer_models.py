"""Attacks on models whose prediction depends on other images: fixed peers, batch mates, peers drawn again each call."""

import pytest
import torch

from redoubt import registry
from redoubt.attacks._expectation import Expectation
from redoubt.evaluation import run as attacking
from redoubt.evaluation.craft import craft
from redoubt.training.fit import fit
from tests.contract.test_attacks import CASES, ENGINES, ROUNDED, attacked, outside

GRADIENTS = [name for name in CASES if registry.method("attacks", name).NEEDS == "gradients"]
WALKS = {*ROUNDED, "carlini-wagner"}  # long ones, which the last bit of a product over all images of a batch may turn
SHARE = 0.3  # of the peers in what the model sees


def attend(images, peers, share=SHARE):
    """Return each image mixed with its attention (softmax of scaled products) over `peers`, shaped as `images`."""
    flat, keys = images.flatten(1), peers.flatten(1)
    weights = (flat @ keys.T / flat.shape[1] ** 0.5).softmax(1)
    return (1 - share) * images + share * (weights @ keys).view_as(images)


class Fixed(torch.nn.Module):
    """Predicts from an image and from peers that are part of the model, held in a buffer."""

    def __init__(self, model, peers):
        super().__init__()
        self.model = model
        self.register_buffer("peers", peers.clone())

    def forward(self, images):
        return self.model(attend(images, self.peers))


class Mates(torch.nn.Module):
    """Predicts from an image and all others of its batch."""

    def __init__(self, model, share=SHARE):
        super().__init__()
        self.model, self.share = model, share

    def forward(self, images):
        return self.model(attend(images, images, self.share))


class Drawn(torch.nn.Module):
    """Predicts from an image and from five peers, drawn from a pool once a call; the same for the whole batch."""

    def __init__(self, model, pool, share):
        super().__init__()
        self.model, self.pool, self.share, self.seen = model, pool, share, []

    def forward(self, images):
        chosen = torch.randperm(len(self.pool))[:5]
        self.seen.append(tuple(chosen.tolist()))
        return self.model(attend(images, self.pool[chosen], self.share))


@pytest.fixture
def fixed(mlp, digit_images):
    return Fixed(mlp, digit_images[0][-5:]).eval()


@pytest.fixture
def sample(digit_images):
    return tuple(part[:30] for part in digit_images)


def accuracy(rows, column="adversarial_label"):
    return float((rows[column] == rows["label"]).mean())


def test_the_models_are_what_they_claim(fixed, mlp, sample, digit_images):
    images, _ = sample
    with torch.no_grad():
        assert (fixed(images) - mlp(images)).abs().max() > 0.1
        assert (fixed(images) - torch.cat([fixed(part) for part in images.split(7)])).abs().max() < 1e-4
        mates = Mates(mlp)
        assert (mates(images) - torch.cat([mates(part) for part in images.split(7)])).abs().max() > 0.1
        drawn = Drawn(mlp, digit_images[0][100:], 0.5)
        assert (drawn(images) - drawn(images)).abs().max() > 0.1


@pytest.mark.parametrize(("name", "engine"), [pair for pair in ENGINES if pair[0] in GRADIENTS])
def test_fixed_peers_stay_and_do_not_protect(name, engine, fixed, sample, snapshot, unchanged):
    images, labels = sample
    before, peers = snapshot(fixed), fixed.peers
    result = attacked(name, fixed, images, labels, engine, batch_size=16)
    assert unchanged(before, fixed) and fixed.peers is peers
    assert not peers.requires_grad and peers.grad is None
    assert accuracy(result.rows) < accuracy(result.rows, "clean_label") - 0.2
    assert outside(name, images, result) <= 1e-6


@pytest.mark.parametrize("name", GRADIENTS)
def test_with_fixed_peers_batch_size_changes_nothing(name, fixed, sample):
    images, labels = (part[:7] for part in sample)
    one, *others = (attacked(name, fixed, images, labels, batch_size=size) for size in (7, 4, 1))
    for other in others:
        if name in WALKS:
            assert other.rows["success"].equals(one.rows["success"])
            for norm in ("l2", "linf"):
                assert other.rows[norm].to_numpy() == pytest.approx(one.rows[norm].to_numpy(), rel=0.05)
        else:
            assert ((one.images - other.images).abs() > 1e-5).float().mean() < 1e-4


@pytest.mark.parametrize("name", GRADIENTS)
def test_success_among_batch_mates_is_that_of_the_finished_batch(name, mlp, sample, snapshot, unchanged):
    images, labels = sample
    network = Mates(mlp).eval()
    before = snapshot(network)
    result = attacked(name, network, images, labels)
    assert unchanged(before, network) and outside(name, images, result) <= 1e-6
    batches = result.images.split(len(images))  # one for each epsilon of a sweep
    expected = [label for batch in batches for label in network(batch).argmax(1).tolist()]
    assert result.rows["adversarial_label"].tolist() == expected
    assert accuracy(result.rows) <= accuracy(result.rows, "clean_label") - 0.1


def test_among_batch_mates_batch_size_does_change_the_result(mlp, sample):
    images, labels = sample
    whole, parts = (attacked("fgs", Mates(mlp).eval(), images, labels, batch_size=size).images for size in (30, 5))
    assert ((whole - parts).abs() > 0.05).float().mean() > 0.01


def test_the_mean_over_drawn_peers_is_attacked_by_draws_of_all_of_them(mlp, sample, digit_images):
    """A step against five peers says less of the next five than a step against many draws of five."""
    images, labels = sample
    options = {"epsilons": [0.1], "steps": 1, "random_start": False, "stop": False, "loss": "log-odds"}
    torch.manual_seed(0)
    heights = {1: 0.0, 30: 0.0}
    for draws in 6 * (1, 30):
        network = Drawn(mlp, digit_images[0][100:], 0.7).eval()
        moved = craft("pgd", Expectation(network, draws), images, labels, **options).images
        assert len(set(network.seen)) == len(network.seen)  # no set of peers is used twice
        with torch.no_grad():
            mean = Expectation(network, 100)(moved)
        others = mean.scatter(1, labels[:, None], float("-inf")).amax(1)
        heights[draws] += float((others - mean.gather(1, labels[:, None])[:, 0]).mean())
    assert heights[30] > heights[1]


@pytest.mark.parametrize("method", ["pgd", "deepfool", "carlini-wagner"])
def test_a_model_with_new_peers_each_call_is_scored_by_repetitions(
    method, mlp, digit_images, tiny_data, make_entry, make_attack, prepared, tmp_path, monkeypatch
):
    fit(make_entry(), 0, tiny_data, prepared(make_entry()), tmp_path / "model", None, "cpu", 1, tmp_path / "resume")
    drawn, load = Drawn(mlp.network, mlp.preprocessing(digit_images[0][100:]).detach(), SHARE), attacking.load_model
    mlp.network = drawn

    def declared(facts):
        facts["entry"]["defense"]["draws"] = "call"
        return facts

    monkeypatch.setattr(
        attacking,
        "load_model",
        lambda weights, preprocessing, where: (mlp.eval(), declared(load(weights, preprocessing, where)[1])),
    )
    parameters = {"pgd": CASES["pgd"][0] | {"epsilons": [0.1]}}.get(method, CASES[method][0])
    entry = make_attack(method, parameters=parameters, space="pixels", draws=8, repetitions=5, select={"images": 40})
    frame = attacking.attack(
        entry, 0, tiny_data, tmp_path / "model/weights.safetensors", prepared(make_entry()), tmp_path / "rows.parquet"
    )
    assert sorted(frame["repetition"].unique()) == [0, 1, 2, 3, 4]
    assert len(set(drawn.seen)) == len(drawn.seen)  # every draw of crafting and of scoring is another set
    each = frame.pivot(index="repetition", columns="index", values="adversarial_label")
    assert each.nunique().gt(1).any()  # success is a matter of the draw, so one repetition would not do
    assert accuracy(frame, "clean_label") > 0.85 and accuracy(frame) < accuracy(frame, "clean_label") - 0.2
