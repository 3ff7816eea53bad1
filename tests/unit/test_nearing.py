"""DDN and FMN: distances in closed form, the nearest example kept, budgets, and Foolbox."""

import pytest
import torch

from redoubt.attacks import _nearing as nearing
from redoubt.attacks._losses import Goal
from redoubt.errors import RedoubtError
from redoubt.evaluation.craft import craft

ATTACKS = [("ddn", "l2"), ("fmn", "l2"), ("fmn", "linf")]


def chosen(name, norm):
    return {"norm": norm} if name == "fmn" else {}


def test_the_cosine_by_hand():
    values = [nearing.cosine(1.0, 0.2, share) for share in (0.0, 1 / 3, 0.5, 1.0)]
    assert values == pytest.approx([1.0, 0.8, 0.6, 0.2])


@pytest.mark.parametrize(("name", "norm"), ATTACKS)
@pytest.mark.parametrize("shorten", [True, False])
def test_an_affine_network_falls_at_its_distance(name, norm, shorten, affine):
    draw = torch.Generator().manual_seed(0)
    weight, images = torch.randn(2, 30, generator=draw), 0.5 + 0.1 * torch.randn(40, 1, 5, 6, generator=draw)
    weight -= weight.mean(1, keepdim=True)
    network = affine(weight, torch.zeros(2))
    logits = network(images).detach()
    distances = (logits.amax(1) - logits.amin(1)) / (weight[0] - weight[1]).norm(p=2 if norm == "l2" else 1)
    inside = distances < (0.45 if norm == "l2" else 0.1)  # so that the bounds of [0, 1] are hardly felt
    images, labels, distances = images[inside], logits.argmax(1)[inside], distances[inside]
    found = craft(name, network, images, labels, steps=150, shorten=shorten, **chosen(name, norm))
    assert found.rows["success"].all() and len(labels) > 10
    ratios = torch.tensor(found.rows[norm].to_numpy()) / distances
    assert ratios.min() > 0.999 and ratios.median() < 1.02 and ratios.max() < 1.1


@pytest.mark.parametrize(("name", "norm"), ATTACKS)
def test_the_nearest_example_is_kept_and_shortened(name, norm, mlp, digit_images):
    images, labels = (part[:40] for part in digit_images)
    sizes = {}
    for steps in (15, 60):
        for shorten in (False, True):
            rows = craft(name, mlp, images, labels, steps=steps, shorten=shorten, **chosen(name, norm)).rows
            assert rows["success"][rows["clean_label"] == rows["label"]].all()
            sizes[steps, shorten] = rows[norm]
            right = rows["clean_label"] == rows["label"]
            spent = {False: 2 * (steps + 1), True: 2 * (steps + 1) + 12}
            assert (rows["queries"][right] == spent[shorten]).all() and (rows["queries"][~right] == 2).all()
    for steps in (15, 60):
        assert (sizes[steps, True] <= sizes[steps, False]).all()
        assert sizes[steps, True].mean() < sizes[steps, False].mean()
    assert sizes[60, False].mean() < sizes[15, False].mean()
    strong = craft("carlini-wagner" if norm == "l2" else "carlini-wagner-linf", mlp, images, labels).rows[norm]
    assert sizes[60, True].median() < 1.15 * strong.median()


@pytest.mark.parametrize(("name", "norm"), ATTACKS)
def test_a_budget_is_kept(name, norm, mlp, digit_images):
    images, labels = (part[:20] for part in digit_images)
    rows = craft(name, mlp, images, labels, queries=61, **chosen(name, norm)).rows
    assert rows["queries"].max() in (60, 61) and rows["success"].mean() > 0.8
    poor = craft(name, mlp, images, labels, queries=33, shorten=False, **chosen(name, norm)).rows
    assert poor["queries"].max() == 32 and poor["iterations"].max() == 15


def test_only_nearer_examples_are_remembered():
    clean, none = torch.zeros(3, 2), torch.full((3,), float("inf"))
    walk = nearing.Walk(torch.arange(3), clean, none, clean, none, none < 0, clean, none, none)
    for points, wrong in ((2.0, [True, True, False]), (3.0, [True, True, True]), (1.0, [True, False, False])):
        walk.points = clean + points
        walk.note(torch.tensor(wrong), "linf")
    assert walk.nearest.tolist() == [1.0, 2.0, 3.0] and walk.best[:, 0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("model", ["mlp", "lenet"])
@pytest.mark.parametrize(("name", "norm"), [("ddn", "l2"), ("fmn", "linf")])
def test_foolbox_agrees(name, norm, model, request, digit_images):
    network = request.getfixturevalue(model)
    slopes = Goal("cross-entropy").gradient(network, *digit_images)[2].flatten(1).norm(dim=1)
    images, labels = (part[slopes > 1e-6][:60] for part in digit_images)  # else Foolbox walks at random
    options = {"steps": 40, "shorten": False, **chosen(name, norm)}
    if name == "ddn":
        options["loss"] = "cross-entropy"
    theirs = craft(name, network, images, labels, engine="foolbox", **options)
    if name == "ddn":  # Foolbox does not look where its last step leads
        options["steps"] -= 1
    ours = craft(name, network, images, labels, **options)
    both = ours.rows["success"] & theirs.rows["success"]
    assert (ours.rows["success"] != theirs.rows["success"]).sum() <= 1 and both.mean() > 0.5
    ratios = ours.rows[norm][both] / theirs.rows[norm][both]
    assert (ratios - 1).abs().median() < 0.01 and ratios.mean() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("name", "change"), [("ddn", {"loss": "cross-entropy"}), ("ddn", {"shorten": False}), ("fmn", {"shorten": False})]
)
def test_foolbox_refuses_what_it_does_not_have(name, change, mlp, digit_images):
    with pytest.raises(RedoubtError, match="Foolbox's engine needs"):
        craft(name, mlp, *(part[:4] for part in digit_images), engine="foolbox", **change)
