"""APGD: its schedule and losses by hand, closed forms, returns to the best point, targets, restarts and budgets."""

from itertools import pairwise

import pytest
import torch

from redoubt.attacks import apgd, pgd
from redoubt.attacks._counting import Counted
from redoubt.errors import RedoubtError
from redoubt.evaluation.craft import craft


def wrong(result):
    return (result.rows["adversarial_label"] != result.rows["label"]).to_numpy()


def test_checkpoints_are_those_of_the_paper():
    assert apgd.checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert apgd.checkpoints(1) == [1] and apgd.checkpoints(10)[0] == 3


def test_ratios_by_hand():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 4.0, 1.0, 3.0]])
    label, target = torch.tensor([0, 0]), torch.tensor([1, 3])
    assert apgd.dlr(logits, label).tolist() == pytest.approx([-1 / 2, 4 / 3])
    assert apgd.dlr_towards(logits, label, target).tolist() == pytest.approx([-2 / 2.5, 3 / 3.5])
    assert torch.allclose(apgd.dlr(7 * logits + 5, label), apgd.dlr(logits, label))
    pairs = torch.stack([label, target], 1)
    assert apgd.Aim("margin", True).height(logits, pairs).tolist() == [-2.0, 3.0]
    assert apgd.Aim("margin", False).height(logits, pairs).tolist() == [-1.0, 4.0]
    assert apgd.Aim("cross-entropy", True).height(logits, pairs).tolist() == pytest.approx(
        torch.log_softmax(logits, 1).gather(1, target[:, None])[:, 0].tolist()
    )


def test_a_checkpoint_by_hand():
    """Of eight steps six must rise; else, or without a new top since full steps were judged, an image goes back."""
    one, clean = torch.ones(4), torch.zeros(4, 2)
    climb = apgd.Climb(
        *(torch.arange(4), clean + 1, clean, clean + 3, 0 * one, clean + 2, clean + 4),
        *(torch.tensor([2.0, 2.0, 1.0, 1.0]), one, torch.tensor([7, 3, 7, 7]), one),
        *(torch.tensor([False, False, False, True]), clean, clean, one),
    )
    climb.judge(8)
    assert climb.halved.tolist() == [False, True, True, False] and climb.lengths.tolist() == [1.0, 0.5, 0.5, 1.0]
    assert climb.points[:, 0].tolist() == [1.0, 2.0, 2.0, 1.0] and climb.gradient[:, 0].tolist() == [3.0, 4.0, 4.0, 3.0]
    assert climb.heights.tolist() == [0.0, 2.0, 1.0, 0.0] and climb.judged.tolist() == [2.0, 2.0, 1.0, 1.0]
    assert climb.rises.tolist() == [0] * 4


def test_fooling_points_are_kept_before_high_ones():
    rows, old, new = torch.arange(4), torch.zeros(4, 1), torch.ones(4, 1)
    found = pgd.Found(old, torch.tensor([True, False, False, True]), torch.ones(4), rows)
    fooled, heights = torch.tensor([False, True, False, True]), torch.tensor([5.0, 0.0, 0.5, 2.0])
    apgd.note(found, rows, new, fooled, heights)
    assert found.points[:, 0].tolist() == [0.0, 1.0, 0.0, 1.0] and found.heights.tolist() == [1.0, 0.0, 1.0, 2.0]
    assert found.fooled.tolist() == [True, True, False, True]


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "dlr"])
def test_an_affine_network_falls_at_its_distance_and_not_before(norm, dual, loss, between):
    network, images, labels, slopes, gap = between
    distance = float(gap / slopes.norm(p=dual))
    options = {"norm": norm, "loss": loss, "steps": 60}
    near, far = (craft("apgd", network, images, labels, epsilons=[s * distance], **options) for s in (0.995, 1.005))
    assert not wrong(near).any() and wrong(far).all()
    assert (far.rows[norm] <= 1.005 * distance + 1e-6).all()


class Ridge(torch.nn.Module):
    """A long ridge: steps of twice the radius overshoot, and only shorter ones come near the top at 0.3."""

    def forward(self, images):
        height = -(images.flatten(1) - 0.3).abs().sum(1)
        return torch.stack([10.0 - height, torch.zeros_like(height), torch.zeros_like(height) - 1], 1)


@pytest.mark.parametrize("stop", [True, False])
def test_steps_shorten_and_the_best_point_is_kept(stop):
    images, labels = torch.full((3, 1, 1, 2), 0.52), torch.zeros(3, dtype=torch.int64)
    options = {"epsilons": [0.37], "loss": "margin", "random_start": False, "stop": stop}
    left = {}
    for steps in (3, 100):
        found = craft("apgd", Ridge().eval(), images, labels, steps=steps, **options)
        left[steps] = (found.images - 0.3).abs().sum((1, 2, 3)).max().item()
    assert left[100] < 0.02 < left[3] < 0.5
    assert (found.rows["iterations"] == 100).all() and (found.rows["queries"] == 202).all()


def test_more_of_everything_is_never_weaker(mlp, digit_images):
    images, labels = (part[:60] for part in digit_images)
    sizes = [0.02, 0.04, 0.06]
    result = craft("apgd", mlp, images, labels, epsilons=sizes, steps=8)
    sweep = wrong(result).reshape(3, 60)
    for smaller, larger in pairwise(sweep):
        assert (larger | ~smaller).all() and larger.sum() > smaller.sum()
    fallen = torch.tensor(sweep[0])
    assert torch.equal(result.images[:60][fallen], result.images[120:][fallen])  # with its example and its counts
    queries = result.rows["queries"].to_numpy().reshape(3, 60)
    assert (queries[0] == queries[2])[sweep[0]].all()
    pgd = craft("pgd", mlp, images, labels, epsilons=[0.03], steps=20, relative_step_size=0.1)
    full = craft("apgd", mlp, images, labels, epsilons=[0.03], steps=20, targets=9)
    assert wrong(full).sum() >= wrong(pgd).sum() and 0.1 < wrong(full).mean() < 0.95


@pytest.mark.parametrize("stop", [True, False])
def test_restarts_draw_again_and_the_best_is_kept(stop):
    def network(images):  # class 1 only in a corner that no gradient leads to
        x, y = images.flatten(1).unbind(1)
        hit = ((x > 0.9) & (y > 0.4)).float()
        return torch.stack([0.5 - 0 * x * y, hit, hit - 2], 1)

    images, labels = torch.full((60, 1, 1, 2), 0.5), torch.zeros(60, dtype=torch.int64)
    options = {"epsilons": [0.45], "steps": 1, "stop": stop}
    one, many = (craft("apgd", network, images, labels, restarts=n, **options) for n in (1, 40))
    assert wrong(one).sum() < 15 and wrong(many).sum() > 45
    assert (wrong(many) | ~wrong(one)).all()


def test_targets_reach_what_the_likeliest_class_hides():
    """The second class only looks near; the third is the one that can be reached."""

    def network(images):
        x, y = images.flatten(1).unbind(1)
        return torch.stack(
            [0 * x + 1.0, 0.9 - 0.2 * (x - 0.5).abs() + 0.05 * y, 3 * (y - 0.5) ** 2 - 2.0 + 4 * x, -x], 1
        )

    images, labels = torch.full((4, 1, 1, 2), 0.5), torch.zeros(4, dtype=torch.int64)
    options = {"epsilons": [0.3], "steps": 10, "loss": "margin", "random_start": False}
    plain, aimed = (craft("apgd", network, images, labels, targets=n, **options) for n in (0, 2))
    assert not wrong(plain).any() and wrong(aimed).all()
    assert (aimed.rows["adversarial_label"] == 2).all()


def test_a_budget_is_kept_and_every_pass_is_counted(counting, mlp, digit_images):
    images, labels = (part[:30] for part in digit_images)
    network, passes = counting(mlp)
    options = {"epsilons": [0.02], "steps": 12, "targets": 3, "restarts": 2}
    counts = {}
    for limit in (None, 33):
        passes.update(forward=0, backward=0)
        rows = craft("apgd", network, images, labels, queries=limit, **options).rows
        scored = 2 + len(images) * 2  # the check of the model, and both images of every row
        assert rows["queries"].sum() == passes["forward"] - scored + passes["backward"]
        assert rows["backwards"].sum() == passes["backward"]
        counts[limit] = rows["queries"]
    assert counts[33].max() in (32, 33) and counts[None].max() == 1 + 6 * 25
    assert (counts[33] <= counts[None]).all()


def test_a_network_refuses_a_pass_too_many(mlp, digit_images):
    images, labels = (part[:4] for part in digit_images)
    asked = Counted.begin(mlp, images, 3)
    goal = apgd.Aim("margin", False)
    goal.gradient(asked.of(torch.tensor([1, 3])), images[:2], torch.stack([labels[:2]] * 2, 1))
    assert asked.left().tolist() == [3, 1, 3, 1]
    asked(images)
    with pytest.raises(RedoubtError, match="more than its 3 queries"):
        asked(images)


def test_the_ratio_needs_its_classes(affine):
    images, labels = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)
    for classes, targets in ((2, 0), (3, 2)):
        network = affine(torch.eye(4)[:classes], torch.zeros(classes))
        with pytest.raises(RedoubtError, match=r"loss: dlr compares . classes here, the model has"):
            craft("apgd", network, images, labels, epsilons=[0.1], targets=targets)
        craft("apgd", network, images, labels, epsilons=[0.1], targets=targets, loss="margin", steps=2)


@pytest.mark.parametrize("values", [{}, {"epsilons": []}, {"epsilons": [0.2, 0.1]}, {"epsilons": [0.1], "queries": 31}])
def test_parameters_are_checked(values, mlp, digit_images):
    with pytest.raises(RedoubtError):
        craft("apgd", mlp, *(part[:2] for part in digit_images), **values)
