"""The scan along one gradient step and PGD in a growing ball: the smallest size that succeeds."""

import pytest
import torch

from redoubt.attacks import gradient_scan
from redoubt.evaluation.craft import craft


@pytest.fixture
def plane(affine):
    """A two-class affine network, images (30, 1, 4, 4) well inside [0, 1], their labels, and weights' difference."""
    draw = torch.Generator().manual_seed(5)
    weight = torch.randn(2, 16, generator=draw)
    images = 0.4 + 0.2 * torch.rand(30, 1, 4, 4, generator=draw)
    network = affine(weight, -(weight @ torch.full((16,), 0.5)))
    return network, images, network(images).argmax(1), weight[0] - weight[1]


def gaps(network, images):
    logits = network(images).detach()
    return logits.amax(1) - logits.amin(1)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_growing_pgd_finds_the_distance_to_a_plane(norm, dual, plane):
    network, images, labels, normal = plane
    expected = (gaps(network, images) / normal.norm(p=dual)).tolist()
    for first in (1e-3, 0.05, 2.0):
        found = craft("growing-pgd", network, images, labels, norm=norm, epsilon=first)
        assert found.rows["epsilon"].tolist() == pytest.approx(expected, rel=1e-3, abs=first * 4e-6)
        assert found.rows["success"].all()
        assert found.rows[norm].tolist() == pytest.approx(expected, rel=1e-3, abs=first * 4e-6)


def test_growing_pgd_gives_up(plane):
    network, images, labels, _ = plane
    found = craft("growing-pgd", network, images, labels, epsilon=1e-6, growths=2)
    near = found.rows["success"].to_numpy()
    assert near.mean() < 0.2
    assert found.rows["epsilon"].isna().to_numpy()[~near].all() and (found.rows["l2"].to_numpy()[~near] == 0).all()
    grown = craft("growing-pgd", network, images, labels, epsilon=1e-6, growth=10, growths=5, bisections=0)
    assert grown.rows["success"].all()
    assert all(min(abs(size * 10**k - 1) for k in range(7)) < 1e-5 for size in grown.rows["epsilon"])


@pytest.mark.parametrize("direction", gradient_scan.Parameters.model_fields["direction"].annotation.__args__)
def test_the_scan_finds_the_first_length_of_the_finer_grid(direction, plane):
    network, images, labels, normal = plane
    slope = normal.abs().sum() if direction == "sign" else normal.norm() * 4  # of a step with unit root mean square
    lengths = (gaps(network, images) / slope).tolist()
    step = 1.01 * max(lengths) / 4  # of the coarse scan, so that images are first fooled at each of its lengths
    found = craft("gradient-scan", network, images, labels, direction=direction, limit=4 * step, scan=4, refine=10)
    assert found.rows["success"].all()
    seen = set()
    for exact, length, tried in zip(lengths, found.rows["epsilon"], found.rows["queries"], strict=True):
        assert length == pytest.approx(next(0.1 * step * k for k in range(1, 41) if 0.1 * step * k >= exact), rel=1e-5)
        coarse = next(k for k in range(1, 5) if step * k >= exact)
        finer = next(k for k in range(1, 11) if step * (coarse - 1 + 0.1 * k) >= exact)
        assert tried == 1 + coarse + min(finer, 9)
        seen.add(coarse)
    assert seen == {1, 2, 3, 4}


@pytest.mark.parametrize("engine", ["redoubt", "foolbox"])
def test_the_scan_keeps_the_point_that_succeeded(engine, plane):
    # Gradients of this network are noise, drawn again in each call: no step that is taken again ends at the same point.
    class Noisy(torch.nn.Module):
        def forward(self, inputs):
            noise = torch.randn_like(inputs)
            return plane[0](inputs) + ((inputs - inputs.detach()) * noise).flatten(1).sum(1, keepdim=True) * signs

    signs, (_, images, labels, _) = torch.tensor([1e3, -1e3]), plane
    torch.manual_seed(0)
    found = craft("gradient-scan", Noisy().eval(), images, labels, engine=engine)
    reached = found.rows["epsilon"].notna()
    assert reached.sum() > 5 and (found.rows["success"] == reached).all()


def test_the_scan_leaves_what_it_cannot_fool(plane):
    network, images, labels, _ = plane
    found = craft("gradient-scan", network, images, labels, limit=1e-7)
    assert torch.equal(found.images, images) and found.rows["epsilon"].isna().all()


@pytest.mark.parametrize("name", ["gradient-scan", "growing-pgd"])
def test_wrong_images_stay(name, plane):
    network, images, labels, _ = plane
    found = craft(name, network, images, 1 - labels)
    assert torch.equal(found.images, images) and (found.rows["epsilon"] == 0).all()


@pytest.mark.parametrize("direction", ["sign", "gradient"])
def test_foolbox_scans_alike(direction, lenet, digit_images):
    images, labels = (part[:60] for part in digit_images)
    ours, theirs = (
        craft("gradient-scan", lenet, images, labels, direction=direction, engine=engine)
        for engine in gradient_scan.ENGINES
    )
    assert (ours.rows["success"] != theirs.rows["success"]).sum() == 0 and ours.rows["success"].mean() > 0.5
    both = ours.rows["success"]
    assert ours.rows["epsilon"][both].mean() == pytest.approx(theirs.rows["epsilon"][both].mean(), rel=0.02)
    assert ours.rows["l2"][both].mean() == pytest.approx(theirs.rows["l2"][both].mean(), rel=0.02)


@pytest.mark.parametrize("name", ["gradient-scan", "growing-pgd"])
def test_the_target_is_reached(name, mlp, digit_images):
    images, labels = (part[:40] for part in digit_images)
    found = craft(name, mlp, images, labels, target=3)
    reached = found.rows["adversarial_label"].eq(3)
    assert reached.mean() > (0.9 if name == "growing-pgd" else 0.15)
    assert (found.rows["epsilon"].isna() == ~reached).all()


def test_growing_pgd_needs_smaller_balls_than_the_scan(mlp, digit_images):
    images, labels = (part[:40] for part in digit_images)
    names = ("gradient-scan", "growing-pgd")
    scan, ball = (craft(name, mlp, images, labels, loss="log-odds").rows for name in names)
    both = scan["success"] & (scan["epsilon"] > 0)
    assert both.sum() > 20 and (ball["epsilon"] < scan["epsilon"] * 1.001)[both].mean() > 0.9
    assert ball["epsilon"][both].mean() < 0.95 * scan["epsilon"][both].mean()
