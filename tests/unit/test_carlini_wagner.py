"""Carlini-Wagner: closed forms on affine networks, Foolbox, and what more steps, searches and confidence do."""

import pytest
import torch

from redoubt.attacks import growing_pgd, losses
from redoubt.attacks.craft import craft
from redoubt.attacks.interface import Batches, Context
from redoubt.registry import method, parameters


@pytest.fixture
def plane(affine):
    """An affine network of five classes, images (30, 1, 4, 4) well inside [0, 1], labels, and its weights."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(5, 16, generator=draw)
    images = 0.4 + 0.2 * torch.rand(30, 1, 4, 4, generator=draw)
    network = affine(weight, -(weight @ torch.full((16,), 0.5)))
    return network, images, network(images).argmax(1), weight


def distances(plane, dual):
    """Return the smallest distance (N,) to another class of an affine network, in the norm whose dual is given."""
    network, images, labels, weight = plane
    logits = network(images).detach()
    found = []
    for row, label in enumerate(labels.tolist()):
        others = [k for k in range(5) if k != label]
        gaps = logits[row, label] - logits[row, others]
        found.append(float((gaps / (weight[others] - weight[label]).norm(p=dual, dim=1)).min()))
    return found


@pytest.mark.parametrize(
    ("name", "norm", "dual", "precision"), [("carlini-wagner", "l2", 2, 1e-3), ("carlini-wagner-linf", "linf", 1, 1e-2)]
)
def test_the_distance_to_the_nearest_plane(name, norm, dual, precision, plane):
    network, images, labels, _ = plane
    found = craft(name, network, images, labels)
    assert found.rows["success"].all()
    assert found.rows[norm].tolist() == pytest.approx(distances(plane, dual), rel=precision)
    unbounded = Context(torch.Generator(), bounds=None)
    options = parameters("attacks", name, {})
    (part,) = method("attacks", name).run(network, Batches(images, labels, 30), options, unbounded)
    order = 2 if norm == "l2" else float("inf")
    sizes = (part.inputs - images).flatten(1).norm(p=order, dim=1)
    assert sizes.tolist() == pytest.approx(distances(plane, dual), rel=precision)


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_foolbox_finds_nothing_nearer(name, request, digit_images):
    model = request.getfixturevalue(name)
    images, labels = (part[:20] for part in digit_images)
    ours = craft("carlini-wagner", model, images, labels).rows
    options = {"initial_c": 1.0, "steps": 150, "searches": 4, "learning_rate": 0.05}
    theirs = craft("carlini-wagner", model, images, labels, engine="foolbox", **options).rows
    wrong = [rows["adversarial_label"] != rows["label"] for rows in (ours, theirs)]
    assert (wrong[0] != wrong[1]).sum() <= 1 and wrong[0].mean() > 0.95
    both = wrong[0] & wrong[1]
    assert ours["l2"][both].mean() <= 1.02 * theirs["l2"][both].mean()
    assert (ours["l2"][both] <= 1.05 * theirs["l2"][both]).mean() > 0.8


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_the_largest_change_is_no_larger_than_that_of_pgd(name, request, digit_images):
    model = request.getfixturevalue(name)
    images, labels = (part[:20] for part in digit_images)
    ours = craft("carlini-wagner-linf", model, images, labels).rows
    pgd = growing_pgd.Parameters(epsilon=0.1, steps=60, loss="log-odds").model_dump()
    theirs = craft("growing-pgd", model, images, labels, **pgd).rows
    assert (ours["adversarial_label"] != ours["label"]).all()
    assert ours["linf"].mean() <= 1.02 * theirs["linf"].mean()


def test_more_steps_and_searches_do_not_lengthen(lenet, digit_images):
    images, labels = (part[:20] for part in digit_images)
    means = []
    for steps, searches in ((10, 1), (40, 2), (300, 6)):
        rows = craft("carlini-wagner", lenet, images, labels, steps=steps, searches=searches).rows
        assert (rows["adversarial_label"] != rows["label"]).all() or (steps, searches) == (10, 1)
        means.append(rows["l2"][rows["success"]].mean())
    assert means[1] <= 1.02 * means[0] and means[2] <= 1.005 * means[1]


@pytest.mark.parametrize("name", ["carlini-wagner", "carlini-wagner-linf"])
def test_confidence_is_a_margin(name, mlp, digit_images):
    images, labels = (part[:15] for part in digit_images)
    sizes = []
    for confidence in (0.0, 2.0):
        found = craft(name, mlp, images, labels, confidence=confidence)
        margins = losses.LOSSES["margin"](mlp(found.images), labels)
        fooled = torch.from_numpy(found.rows["success"].to_numpy())
        assert fooled.float().mean() > 0.8 and (margins[fooled] > confidence).all()
        sizes.append(found.rows["l2" if name == "carlini-wagner" else "linf"][fooled.numpy()].mean())
    assert sizes[1] > 1.02 * sizes[0]
