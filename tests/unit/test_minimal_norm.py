"""Minimal APGD and the trust region: distances in closed form, brackets, radii that adapt, classes, budgets."""

import pytest
import torch

from redoubt.attacks import minimal_apgd, pgd, trust_region
from redoubt.errors import RedoubtError
from redoubt.evaluation.craft import craft

ATTACKS = [(name, norm) for name in ("minimal-apgd", "trust-region") for norm in ("linf", "l2")]


@pytest.mark.parametrize(("name", "norm"), ATTACKS)
def test_an_affine_network_falls_at_its_nearest_boundary(name, norm, affine):
    """The likeliest wrong class is often not the nearest: its logits have other slopes."""
    draw = torch.Generator().manual_seed(0)
    weight, images = torch.randn(4, 30, generator=draw), 0.5 + 0.1 * torch.randn(40, 1, 5, 6, generator=draw)
    weight = (weight - weight.mean(1, keepdim=True)) * torch.tensor([[0.3], [1.0], [2.0], [4.0]])
    network = affine(weight, torch.zeros(4))
    logits = network(images).detach()
    labels = logits.argmax(1)
    slopes = (weight[labels][:, None] - weight[None]).norm(p=1 if norm == "linf" else 2, dim=2)
    reach = ((logits.gather(1, labels[:, None]) - logits) / slopes).scatter(1, labels[:, None], float("inf"))
    distances, nearest = reach.min(1)
    likeliest = logits.scatter(1, labels[:, None], -float("inf")).argmax(1)
    assert (nearest != likeliest).any()
    inside = distances < (0.45 if norm == "l2" else 0.1)  # so that the bounds of [0, 1] are hardly felt
    found = craft(name, network, images[inside], labels[inside], **{"norm": norm})
    ratios = torch.tensor(found.rows[norm].to_numpy()) / distances[inside]
    assert len(ratios) > 10 and found.rows["success"].all()
    assert ratios.min() > 0.999 and ratios.median() < 1.01 and ratios.max() < 1.1
    assert (found.rows["adversarial_label"].to_numpy() == nearest[inside].numpy()).mean() > 0.9


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_wide_region_ends_a_little_past_the_boundary(norm, between):
    network, images, labels, slopes, gap = between
    distance, farthest = float(gap / slopes.norm(p=1 if norm == "linf" else 2)), []

    def watched(inputs):
        moved = (inputs - images[: len(inputs)]).detach().flatten(1)
        farthest.append(moved.norm(p=float("inf") if norm == "linf" else 2, dim=1).max().item())
        return network(inputs)

    found = craft("trust-region", watched, images, labels, norm=norm, radius=1.0)
    assert found.rows["success"].all() and found.rows[norm].max() < 1.001 * distance
    assert distance < max(farthest) < 1.03 * distance


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_where_the_nearest_class_cannot_be_reached_the_next_one_is(norm):
    # The linearised boundary of class 1 is at 0.5, but it never gets above -0.2; that of class 2 is at 0.8.
    def network(inputs):
        first, second = inputs.flatten(1).T
        return torch.stack([0 * first, 2 * first.clamp(max=0.4) - 1, second - 0.8], 1)

    images, labels = torch.zeros(2, 1, 1, 2), torch.tensor([0, 1])
    one, two = (craft("trust-region", network, images, labels, norm=norm, walks=walks) for walks in (1, 2))
    assert one.rows["success"].tolist() == [False, False] and one.rows["iterations"].tolist() == [100, 0]
    assert one.rows["queries"][0] == 1 + 2 + 2 * 101
    assert two.rows["success"].tolist() == [True, False] and 100 < two.rows["iterations"][0] < 200
    assert two.rows["adversarial_label"].tolist() == [2, 0] and two.rows[norm][0] == pytest.approx(0.8, rel=0.01)


def test_what_would_leave_the_bounds_does_not_count():
    points, slopes = torch.tensor([[0.0, 0.0, 0.5, 1.0, 1.0]]), torch.tensor([[-1.0, 1.0, -1.0, 1.0, -1.0]])
    assert trust_region.inward(slopes, points, (0.0, 1.0)).tolist() == [[0.0, 1.0, -1.0, 0.0, -1.0]]
    assert trust_region.inward(slopes, points, None) is slopes


@pytest.mark.parametrize(("name", "norm"), ATTACKS)
def test_digits_fall_about_as_near_as_under_carlini_and_wagner(name, norm, mlp, digit_images):
    images, labels = digit_images[0][:25], mlp(digit_images[0][:25]).argmax(1)
    labels[::10] = (labels[::10] + 1) % 10
    rows = craft(name, mlp, images, labels, norm=norm).rows
    right = rows["clean_label"] == rows["label"]
    assert rows["success"][right].all() and (rows[norm][~right] == 0).all() and not right.all()
    strong = craft("carlini-wagner" if norm == "l2" else "carlini-wagner-linf", mlp, images, labels).rows[norm]
    assert (rows[norm] / strong)[right].median() < 1.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_regions_that_grow_no_further_end_nearer(norm, mlp, digit_images):
    images = digit_images[0][:60]
    wide = {"radius": 0.1, "limits": (0.1, 10.0)}
    own, other = (
        craft("trust-region", mlp, images, mlp(images).argmax(1), norm=norm, **given).rows for given in ({}, wide)
    )
    assert own["success"].all() and (own[norm] / other[norm]).mean() < 0.99


@pytest.mark.parametrize(("name", "norm"), ATTACKS)
def test_a_budget_is_kept_and_every_pass_is_counted(name, norm, counting, mlp, digit_images):
    images, labels = (part[:20] for part in digit_images)
    network, passes = counting(mlp)
    options = {"steps": 10, "balls": 4} if name == "minimal-apgd" else {}
    for limit in (33, None):
        passes.update(forward=0, backward=0)
        rows = craft(name, network, images, labels, norm=norm, queries=limit, **options).rows
        assert rows["queries"].sum() == passes["forward"] - 2 - 2 * len(images) + passes["backward"]
        assert rows["backwards"].sum() == passes["backward"]
        assert limit is None or 20 <= rows["queries"].max() <= 33


def test_brackets_close_from_both_sides():
    inputs, rows = torch.zeros(3, 1), torch.arange(3)
    none = torch.zeros(3)
    known = minimal_apgd.Brackets(inputs.clone(), none.clone(), none + float("inf"), none + 2.0, none.long())
    fooled = torch.tensor([True, False, True])
    known.learn(rows, pgd.Found(inputs + 1.5, fooled, none, rows), none + 1.5, 3.0)
    assert known.low.tolist() == [0.0, 2.0, 0.0] and known.high.tolist() == [1.5, float("inf"), 1.5]
    assert known.trial.tolist() == [0.75, 6.0, 0.75] and known.points[:, 0].tolist() == [1.5, 0.0, 1.5]
    known.learn(rows[:1], pgd.Found(inputs[:1] + 9.0, ~fooled[:1], none[:1], rows[:1]), none[:1] + 9.0, 3.0)
    assert known.low[0] == 0.75 and known.trial[0] == 1.125 and known.high[0] == 1.5 and known.points[0] == 1.5
    assert known.iterations.tolist() == [0, 1, 2]
    known.learn(rows[2:], pgd.Found(inputs[2:] + 9.0, fooled[2:], none[2:], rows[2:]), none[2:] + 9.0, 3.0)
    assert known.high[2] == 1.5 and known.points[2] == 1.5  # a farther example is not taken


def test_radii_follow_what_steps_have_gained():
    ones = torch.ones(5)
    region = trust_region.Region(
        torch.arange(5), ones, ones, ones[:, None], 2 * ones, ones, 0 * ones, torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0])
    )
    region.radii[4] = 9.0
    leads = torch.tensor([0.9, 0.6, 0.1, 5.0, 1.0])
    options = trust_region.Parameters(factor=2.0, limits=(0.1, 10.0))
    assert trust_region.adapted(region, leads, options).tolist() == [4.0, 2.0, 1.0, 2.0, 10.0]


def test_the_ratio_needs_its_classes(affine):
    images, labels = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)
    network = affine(torch.eye(4)[:3], torch.zeros(3))
    with pytest.raises(RedoubtError, match="minimal-apgd: loss: dlr compares 4 classes here, the model has 3"):
        craft("minimal-apgd", network, images, labels)
    craft("minimal-apgd", network, images, labels, loss="margin", steps=2, balls=2)
