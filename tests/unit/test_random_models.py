"""Attacks on models that change with each call: the mean over draws, and scoring by repeated draws."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from redoubt.attacks import apgd, pgd
from redoubt.attacks._counting import Counted
from redoubt.attacks._expectation import Expectation
from redoubt.attacks._losses import Goal, margin
from redoubt.attacks.interface import Crafted
from redoubt.attacks.square import TINY, ask
from redoubt.errors import RedoubtError
from redoubt.evaluation import run as attacking
from redoubt.evaluation.craft import craft
from redoubt.evaluation.twins import SeededByImage
from redoubt.models import classifier
from redoubt.networks._random import MeanOfDraws, mean_softmax, without_noise
from redoubt.study.entries.attack import AttackEntry
from redoubt.training.fit import fit
from tests.planted import loud


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


def test_every_draw_is_a_call_of_its_own_and_its_logits_are_averaged():
    network, inputs = Noisy(), torch.rand(5, 4)
    torch.manual_seed(0)
    mean = Expectation(network, 7)(inputs)
    assert [noise.shape for noise in network.calls] == [(5, 4)] * 7
    assert torch.unique(torch.cat(network.calls), dim=0).shape == (35, 4)
    each = ((inputs + torch.stack(network.calls)) ** 2) @ network.weight
    assert torch.allclose(mean, each.mean(0), atol=1e-5)


def by_hand(mean, draws, labels):
    """The cross-entropy (B,) that an attack climbs, given the logits (n, B, classes) of its draws."""
    picked = torch.arange(len(labels))
    if mean == "loss":
        return -draws.log_softmax(2)[:, picked, labels].mean(0)
    if mean == "probabilities":
        return -draws.softmax(2).mean(0)[picked, labels].log()
    return -draws.mean(0).log_softmax(1)[picked, labels]


MEANS = ("loss", "probabilities", "logits")


@pytest.mark.parametrize("mean", MEANS)
def test_what_is_averaged_is_what_was_asked_for(mean):
    network, labels = Noisy(), torch.tensor([0, 1, 2])
    inputs = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    look, gradient = Goal("cross-entropy").ascent(Expectation(network, 5, mean), inputs, labels)
    noise = torch.stack(network.calls)
    assert len(noise) == 5
    found = {}
    for name in MEANS:
        points = inputs.clone().requires_grad_()
        draws = ((points + noise) ** 2) @ network.weight
        found[name] = torch.autograd.grad(by_hand(name, draws, labels).sum(), points)[0]
    assert torch.allclose(look.height, by_hand(mean, draws, labels), atol=1e-5)
    assert torch.allclose(gradient, found[mean], atol=1e-5)
    assert all((gradient - found[name]).abs().max() > 0.1 for name in MEANS if name != mean)
    margins = torch.stack([margin(part, labels) for part in draws]).mean(0)
    assert torch.allclose(look.rank, margins, atol=1e-5) and torch.equal(look.reached, margins > 0)


@pytest.mark.parametrize("mean", MEANS)
def test_attacks_that_count_their_queries_see_every_draw_too(mean):
    labels, inputs = torch.arange(60) % 3, torch.rand(60, 4, generator=torch.Generator().manual_seed(1))
    found, asked = [], Counted.begin(Expectation(Noisy(), 5, mean), inputs, 32)
    for network in (Expectation(Noisy(), 5, mean), asked):
        torch.manual_seed(0)
        found.append([*Goal("cross-entropy").gradient(network, inputs, labels), ask(network, inputs, labels)])
    assert all(torch.allclose(*pair) for pair in zip(*found, strict=True))
    assert asked.spent.tolist() == [[2] * 60, [1] * 60], "however many draws, a pass counts once"
    network = Noisy()
    margins = ask(Expectation(network, 5, mean), inputs, labels)
    draws = ((inputs + torch.stack(network.calls)) ** 2) @ network.weight
    means = {"probabilities": mean_softmax(draws), "logits": draws.mean(0)}
    expected = torch.stack([margin(part, labels) for part in draws]).mean(0)
    expected = margin(means[mean], labels) if mean in means else expected
    wrong = means.get(mean, means["logits"]).argmax(1) != labels
    expected = torch.where(wrong, expected.clamp_min(TINY), expected.clamp_max(0.0))
    assert torch.allclose(margins, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("apgd", {"epsilons": [0.2], "steps": 20, "loss": "cross-entropy"}),
        ("ddn", {"steps": 40, "loss": "cross-entropy"}),
    ],
)
def test_strong_attacks_average_the_loss_of_draws_of_which_one_in_five_is_loud(attack, options, _mlp, digit_images):
    images, labels = (part[:10] for part in digit_images)
    norms = {}
    for mean in ("loss", "logits"):
        torch.manual_seed(0)
        rows = craft(attack, Expectation(loud(_mlp), 20, mean), images, labels, scorings=10, **options).rows
        fooled = rows["adversarial_label"] != rows["label"]
        norms[mean] = rows["l2"].where(fooled, 10.0).mean()
    assert norms["loss"] < 0.8 * norms["logits"], norms


@pytest.mark.parametrize("mean", MEANS)
def test_a_look_without_a_gradient_averages_the_same(mean):
    network, inputs, labels = Noisy(), torch.rand(3, 4), torch.tensor([0, 1, 2])
    look = Goal("cross-entropy").look(Expectation(network, 5, mean), inputs, labels)
    draws = ((inputs + torch.stack(network.calls)) ** 2) @ network.weight
    assert torch.allclose(look.height, by_hand(mean, draws, labels), atol=1e-5)


def test_judges_beyond_the_draws_are_asked_once_more_without_gradients():
    network, inputs, labels = Noisy(), torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    look, _ = Goal("cross-entropy", target=1).ascent(Expectation(network, 2, judges=5), inputs, labels)
    assert len(network.calls) == 5
    draws = ((inputs + torch.stack(network.calls)) ** 2) @ network.weight
    margins = torch.stack([-margin(part, torch.ones_like(labels)) for part in draws]).mean(0)
    assert torch.allclose(look.rank, margins, atol=1e-5) and torch.equal(look.reached, margins > 0)


@pytest.mark.parametrize("mean", MEANS)
def test_gradients_approach_that_of_the_expectation(mean):
    network, inputs = Shaken(), torch.rand(1, 4)  # a model that draws once a call
    points, labels = inputs.clone().requires_grad_(), torch.zeros(1, dtype=torch.int64)
    noise = torch.randn(20000, 1, 4, generator=torch.Generator().manual_seed(2))
    draws = ((points + 0.3 * noise) ** 2) @ network.weight
    (exact,) = torch.autograd.grad(by_hand(mean, draws, labels).sum(), points)
    torch.manual_seed(0)
    errors = {}
    for count in (10, 250):
        goal, model = Goal("cross-entropy"), Expectation(network, count, mean)
        sizes = [(goal.ascent(model, inputs, labels)[1] - exact).norm() for _ in range(10)]
        errors[count] = torch.stack(sizes).mean()
    assert 2.5 < errors[10] / errors[250] < 10  # as 1 / sqrt(draws)


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


QUIET = torch.zeros(())


class Shaken(torch.nn.Module):
    """An affine network on squared inputs whose noise is drawn once a call, the same for all images of the batch."""

    def __init__(self, features=4, classes=3):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(features, classes, generator=torch.Generator().manual_seed(0)))
        self.calls, self.still = [], False

    def forward(self, inputs):
        noise = QUIET if self.still else 0.3 * torch.randn(1, *inputs.shape[1:])
        self.calls.append((len(inputs), noise))
        return ((inputs + noise).flatten(1) ** 2) @ self.weight


@pytest.fixture
def shaken(tiny_data, make_entry, prepared, make_attack, tmp_path, monkeypatch):
    """Function (attack and changes of its entry) to the rows of an attack on a `Shaken` model, and to its calls."""
    fit(make_entry(), 0, tiny_data, prepared(make_entry()), tmp_path / "model", None, "cpu", 1, tmp_path / "resume")
    load = attacking.load_model

    def make(attack="fgs", declared="call", **changes):
        network = Shaken(784, 10)

        def loaded(weights, preprocessing, where):
            model, facts = load(weights, preprocessing, where)
            model.network = network.eval()
            facts["entry"]["defense"]["draws"] = declared
            return model, facts

        monkeypatch.setattr(attacking, "load_model", loaded)
        entry = make_attack(attack, **{"select": {"images": 7}, "parameters": {"epsilons": [0.1]}, **changes})
        files = tmp_path / "model/weights.safetensors", prepared(make_entry()), tmp_path / "rows.parquet"
        return attacking.attack(entry, 0, tiny_data, *files), network.calls

    return make


@pytest.mark.parametrize(("draws", "crafting"), [("call", 4), ("image", 4), ("never", 1)])
def test_averaging_follows_from_what_the_model_declares(draws, crafting, shaken):
    _, (_, *calls) = shaken(declared=draws, draws=4, judges=1)  # the first call is to check the model
    assert [size for size, _ in calls] == [7] * (crafting + 2)
    assert len(torch.unique(torch.stack([noise for _, noise in calls]), dim=0)) == len(calls)


@pytest.mark.parametrize(("crafting", "scoring"), [("none", "drawn"), ("none", "none"), ("drawn", "none")])
def test_a_twin_without_noise_is_attacked_and_transferred_from(crafting, scoring, shaken):
    changes = {"craft_noise": crafting, "score_noise": scoring, "parameters": {"epsilons": [0.1], "steps": 2}}
    rows, calls = shaken("pgd", draws=3, judges=3, repetitions=4, **changes)
    silent = [noise is QUIET for _, noise in calls][1 if crafting == scoring else 2 :]  # but for checks of the model
    scored = 1 + 4 if scoring == "none" else 2 * 4  # a twin is asked about clean images once
    assert silent[:-scored] == [crafting == "none"] * len(silent[:-scored])
    assert silent[-scored:] == [scoring == "none"] * scored
    losses = rows.groupby("index")["loss"].nunique()
    assert (losses == 1).all() == (scoring == "none")


def test_every_repetition_may_craft_again_by_other_draws_and_starts(shaken):
    short = {"epsilons": [0.1, 0.2], "steps": 1, "step_size": 0.02, "stop": False}
    changes = {"parameters": short, "keep_images": True, "repetitions": 3}
    for twin in ({}, {"craft_noise": "none"}):  # a twin's examples differ by the random start alone
        once, again = (shaken("pgd", **changes, **twin, recraft=recraft)[0] for recraft in (False, True))
        assert all((rows.groupby(["epsilon", "repetition"]).size() == 7).all() for rows in (once, again))
        assert again.groupby(["epsilon", "repetition"]).ngroups == 6
        for rows, distinct in ((once, 1), (again, 3)):
            pictures = rows.assign(picture=rows["picture"].map(lambda picture: picture.tobytes()))
            assert (pictures.groupby(["epsilon", "index"])["picture"].nunique() == distinct).all()
        first = [rows.query("repetition == 0 and epsilon == 0.1")["picture"].tolist() for rows in (once, again)]
        assert np.array_equal(*first)


def test_noise_that_the_image_decides_is_the_same_in_any_batch():
    network, inputs = Noisy().eval(), torch.rand(6, 4)
    twin, before = SeededByImage(network), torch.get_rng_state()
    whole, backwards = twin(inputs), twin(inputs.flip(0)).flip(0)
    assert torch.equal(whole, backwards) and torch.equal(torch.get_rng_state(), before)
    noise = torch.cat(network.calls)
    assert torch.equal(noise[:6], noise[6:].flip(0)) and torch.unique(noise, dim=0).shape == (6, 4)
    points = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(twin(points)[:, 0].sum(), points)
    assert torch.allclose(gradient, 2 * (inputs + noise[:6]) * network.weight[:, 0], atol=1e-5)


def test_a_twin_by_image_answers_each_time_alike(shaken):
    rows, _ = shaken(craft_noise="by-image", score_noise="by-image", repetitions=3)
    assert len(rows) == 3 * 7 and (rows.groupby("index")["loss"].nunique() == 1).all()


class Recording:
    """Of a goal: keeps the points that an attack had judged, and their ranks."""

    def __init__(self, *given):
        super().__init__(*given)
        self.asked = []

    def look(self, network, inputs, labels, judged=True):
        look = super().look(network, inputs, labels, judged)
        if judged:
            self.asked.append((inputs.clone(), look.rank))
        return look

    def ascent(self, network, inputs, labels, judged=True):
        look, slopes = super().ascent(network, inputs, labels, judged)
        self.asked.append((inputs.clone(), look.rank))
        return look, slopes


class Recorded(Recording, Goal):
    """A goal that keeps what it was asked."""


class RecordedAim(Recording, apgd.Aim):
    """The same for APGD."""


def test_pgd_keeps_the_point_of_the_highest_mean_margin_and_takes_all_steps():
    network, labels = Noisy(scale=0.3), torch.arange(12) % 3
    inputs = torch.rand(12, 4, generator=torch.Generator().manual_seed(3))
    goal, full = Recorded("cross-entropy"), torch.full((12,), 0.5)
    model = Expectation(network, 2, judges=8)
    torch.manual_seed(0)
    found = pgd.ascend(model, inputs, labels, inputs, full, full / 4, goal, steps=10)
    assert len(network.calls) == 11 * 8 and found.iterations.tolist() == [10] * 12
    torch.manual_seed(0)
    points, ranks = (torch.stack(part) for part in zip(*goal.asked, strict=True))
    best = ranks.argmax(0)
    kept = found.heights == ranks.amax(0)
    assert kept.sum() >= 6 and best[kept].unique().numel() > 1 and (found.heights >= ranks.amax(0)).all()
    assert torch.equal(found.points[kept], points[best[kept], kept.nonzero()[:, 0]])
    assert torch.equal(found.fooled, found.heights > 0)


def test_apgd_keeps_the_point_of_the_highest_mean_margin():
    labels, goal, full = torch.arange(12) % 3, RecordedAim("cross-entropy", False), torch.full((12,), 0.5)
    inputs = torch.rand(12, 4, generator=torch.Generator().manual_seed(3))
    model = Counted.begin(Expectation(Noisy(scale=0.3), 2, judges=8), inputs)
    pairs = torch.stack([labels, labels - 1], 1)
    torch.manual_seed(0)
    found = apgd.ascend(model, inputs, pairs, inputs, full, goal, steps=10, stop=False)
    points, ranks = (torch.stack(part) for part in zip(*goal.asked, strict=True))
    best = ranks.argmax(0)
    assert len(points) == 11 and best.unique().numel() > 1 and torch.equal(found.heights, ranks.amax(0))
    assert torch.equal(found.points, points[best, torch.arange(12)])
    assert torch.equal(found.fooled, found.heights > 0) and found.fooled.any()


def test_no_image_of_a_random_model_leaves_apgd():
    """Whether it is misclassified as it is, by a draw on the way, or at a smaller size."""
    inputs, labels = torch.rand(12, 1, 2, 2, generator=torch.Generator().manual_seed(3)), torch.arange(12) % 3
    torch.manual_seed(0)
    network = Noisy(scale=0.3).eval()
    assert 0 < int((network(inputs).argmax(1) != labels).sum()) < 12
    for model, leaves in ((Expectation(network, judges=4), False), (Noisy(scale=0.0).eval(), True)):
        rows = craft("apgd", model, inputs, labels, epsilons=[0.3, 0.5], steps=10).rows
        assert len(rows) == 24 and (rows["iterations"] < 10).any() == leaves
        assert ((rows.loc[rows["epsilon"] == 0.5, "linf"] > 0.3).sum() >= 8) != leaves


def test_a_lucky_draw_ends_no_search():
    class Lucky(torch.nn.Module):
        """Sees class 0 in any image, but for a draw in four."""

        def forward(self, inputs):
            shift = 1.0 * (torch.rand(()) < 0.25) + 0.0 * inputs.flatten(1).sum(1)
            return torch.stack([1.0 - shift, shift], 1)

    network, labels = Lucky().eval(), torch.zeros(4, dtype=torch.int64)
    options = {"population": 5, "generations": 6, "pixels": [1]}
    torch.manual_seed(0)
    for model, goes_on in ((Expectation(network, judges=60), True), (network, False)):
        rows = craft("few-pixel", model, torch.rand(4, 1, 3, 3), labels, **options).rows
        assert (rows["iterations"] == 6).all() == goes_on
        rows = craft("square", model, torch.rand(4, 1, 3, 3), labels, epsilons=[0.1], iterations=40).rows
        assert (rows["iterations"] == 40).all() == goes_on
    scored = craft("fgs", Expectation(network, 60), torch.rand(4, 1, 3, 3), labels, epsilons=[0.0], scorings=30).rows
    assert (scored.groupby("repetition").size() == 4).all() and len(scored) == 120
    assert 0.05 < (scored["adversarial_label"] != 0).mean() < 0.5  # a mean of 60 draws would never be wrong


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
    facts = {"entry": entry, "shape": [1, 28, 28], "classes": ["0", "1"], "sha256": "", "preprocessing": {"sha256": ""}}
    model = classifier.build(entry, (1, 28, 28), 10).eval()
    model.network = torch.nn.Sequential(Random(), torch.nn.ConstantPad1d((0, 8), 0.0)).eval()
    monkeypatch.setattr(attacking, "load_model", lambda weights, preprocessing, where: (model, facts))
    attack = make_attack("fgs", parameters={"epsilons": [0.0]}, repetitions=8, select={"images": 12})
    frame = attacking.attack(attack, 0, tiny_data, tmp_path / "none", tmp_path / "none", tmp_path / "rows.parquet")
    assert (frame.groupby("index")["clean_label"].nunique().max() > 1) == random


def test_rows_carry_the_repetition_and_the_entry_sets_the_draws(shaken, monkeypatch):
    seen, inner = [], attacking.Expectation

    def watched(network, *options):
        seen.append(options)
        return inner(network, *options)

    monkeypatch.setattr(attacking, "Expectation", watched)
    shares = {"draws": 4, "mean": "probabilities", "judges": 5, "repetitions": 3}
    rows, _ = shaken(**shares, parameters={"epsilons": [0.1, 0.2]})
    assert seen == [(4, "probabilities", 5)] and len(rows) == 2 * 3 * 7
    assert (rows.groupby(["epsilon", "repetition"])["index"].apply(list) == [[*range(7)]] * 6).all()


def test_one_draw_is_the_model_itself(mlp, digit_images):
    images, labels = (part[:10] for part in digit_images)
    plain, mean = (craft("fgs", model, images, labels, epsilons=[0.1]).images for model in (mlp, Expectation(mlp, 3)))
    assert (plain - mean).abs().max() < 1e-6
