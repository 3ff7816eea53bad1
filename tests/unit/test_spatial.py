"""Spatial attack: known movements, SciPy's interpolation, exact enumeration, and Foolbox."""

import itertools
import subprocess
import sys

import foolbox
import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt import registry
from redoubt.attacks import _losses as losses
from redoubt.attacks import interface, spatial
from redoubt.attacks.interface import Batches, Context
from redoubt.engines import foolbox as foolbox_engine
from redoubt.errors import RedoubtError
from redoubt.evaluation.engine import implementation

Parameters = spatial.Parameters
FEW = {"rotations": 5, "translations": 3}


def context(seed=0, bounds=(0.0, 1.0), **changes):
    return Context(torch.Generator().manual_seed(seed), bounds=bounds, **changes)


def attack(network, inputs, labels, size=64, ctx=None, engine="redoubt", **parameters):
    """Return moved inputs (N, ...) and facts (N,)."""
    batches = Batches(inputs, labels, size)
    run = implementation("attacks", "spatial", engine)
    parts = list(run(network, batches, Parameters(**parameters), ctx or context()))
    facts = {name: np.concatenate([part.facts[name] for part in parts]) for name in parts[0].facts}
    return torch.cat([part.inputs for part in parts]), facts


def moved(images, rotation=0.0, tx=0.0, ty=0.0, bounds=None):
    moves = torch.tensor([[rotation, tx, ty]]).expand(len(images), -1)
    return spatial.transform(images, moves, bounds)


def shifted(images, tx, ty):
    """Return images shifted by whole pixels to the right and down, zeros moving in."""
    result = torch.roll(images, (ty, tx), (2, 3))
    height, width = images.shape[2:]
    result[:, :, : max(ty, 0)] = 0
    result[:, :, height + min(ty, 0) :] = 0
    result[..., : max(tx, 0)] = 0
    result[..., width + min(tx, 0) :] = 0
    return result


@pytest.fixture
def pictures():
    """Random images with two channels, neither square nor of a power of two."""
    return torch.rand(4, 2, 11, 14, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tiny(affine):
    """Function (images, seed) to an affine network on 7x7 images, images and labels, most of them predicted."""

    def make(count, seed=0):
        draw = torch.Generator().manual_seed(seed)
        network = affine(torch.randn(3, 49, generator=draw), torch.zeros(3))
        inputs = torch.rand(count, 1, 7, 7, generator=draw)
        labels = network(inputs).argmax(1)
        labels[: count // 8] = (labels[: count // 8] + 1) % 3
        return network, inputs, labels

    return make


def test_import_leaves_torch_alone():
    code = "import sys; import redoubt.attacks.spatial; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_no_movement_returns_every_bit(pictures, bounds):
    assert torch.equal(moved(pictures, bounds=bounds), pictures)
    large = torch.rand(1, 3, 97, 224, generator=torch.Generator().manual_seed(1))
    assert torch.equal(moved(large, bounds=bounds), large)


@pytest.mark.parametrize(("tx", "ty"), [(1, 0), (0, 1), (-3, 0), (0, -2), (2, -3), (-1, 3), (14, 0)])
def test_whole_pixels_shift_right_and_down(pictures, tx, ty):
    assert torch.equal(moved(pictures, tx=tx, ty=ty), shifted(pictures, tx, ty))


def test_positive_angles_turn_counter_clockwise(pictures):
    square = pictures[..., :11]
    for turns in (-1, 1, 2, 3):
        assert torch.equal(moved(square, 90.0 * turns), torch.rot90(square, turns, (2, 3)))
    assert torch.equal(moved(pictures, 180.0), torch.rot90(pictures, 2, (2, 3)))


def test_translation_follows_rotation(pictures):
    square = pictures[..., :11]
    assert torch.equal(moved(square, 90.0, 2, 1), shifted(torch.rot90(square, 1, (2, 3)), 2, 1))
    assert not torch.equal(moved(square, 90.0, 2, 1), torch.rot90(shifted(square, 2, 1), 1, (2, 3)))


def test_half_pixels_are_means(pictures):
    mean = (pictures + shifted(pictures, 1, 0)) / 2
    assert (moved(pictures, tx=0.5) - mean).abs().max() < 1e-6


@settings(max_examples=30, deadline=None)
@given(st.floats(-180, 180), st.floats(-4, 4), st.floats(-4, 4))
def test_scipy_interpolates_the_same(rotation, tx, ty):
    image = torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    angle = np.deg2rad(rotation)
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # rows and columns, inverted
    middle = np.array([4.0, 5.5])
    offset = middle - back @ (middle + np.array([ty, tx]))
    expected = scipy.ndimage.affine_transform(image[0, 0].numpy(), back, offset, order=1, mode="grid-constant")
    moves = torch.tensor([[rotation, tx, ty]], dtype=torch.float64)
    assert np.abs(spatial.transform(image, moves)[0, 0].numpy() - expected).max() < 1e-9


def test_the_low_bound_lies_outside(pictures):
    assert (moved(pictures, tx=2, bounds=(-1.0, 1.0))[..., :2] == -1).all()
    assert (moved(pictures + 5, tx=2)[..., :2] == 0).all()
    inside = moved(2 * pictures - 1, tx=1, bounds=(-1.0, 1.0))[..., 1:]
    assert (inside - (2 * pictures - 1)[..., :-1]).abs().max() < 1e-6


def test_rounding_does_not_pass_the_bounds():
    moves = (2 * torch.rand(200, 3, generator=torch.Generator().manual_seed(6)) - 1) * torch.tensor([30.0, 2.0, 2.0])
    white, low = torch.ones(200, 1, 28, 28), 0.1
    assert (spatial.transform(white - low, moves) + low).max() > 1
    assert spatial.transform(white, moves, (low, 1.0)).max() == 1


def test_gradient_is_that_of_finite_differences():
    draw = torch.Generator().manual_seed(3)
    image, weight = (torch.rand(1, 1, 9, 9, generator=draw, dtype=torch.float64) for _ in range(2))
    moves = torch.tensor([[17.3, 0.37, -1.21]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda at: (spatial.transform(image, at) * weight).sum(), (moves,), eps=1e-7)


def test_grid_holds_every_combination_once_from_large_to_small():
    moves = spatial.grid(Parameters())
    angles, shifts = np.linspace(-30, 30, 31), np.linspace(-3, 3, 5)
    expected = set(itertools.product(angles.tolist(), shifts.tolist(), shifts.tolist()))
    assert moves.shape == (775, 3) and {tuple(np.round(move, 6)) for move in moves.tolist()} == expected
    sizes = (moves[1:] / torch.tensor([30.0, 3.0, 3.0])).norm(dim=1)
    assert not moves[0].any() and (sizes.diff() <= 0).all() and sizes[0] == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"translation": 0}, 31),
        ({"rotation": 0}, 25),
        ({"rotation": 0, "translation": 0}, 1),
        ({"translations": 1}, 31),
    ],
)
def test_a_limit_of_zero_leaves_one_value(changes, count):
    assert len(spatial.grid(Parameters(**changes))) == count


def test_an_even_grid_starts_without_movement_too():
    moves = spatial.grid(Parameters(rotations=2, translations=2))
    assert len(moves) == 9 and not moves[0].any() and (moves[1:].abs() == torch.tensor([30.0, 3.0, 3.0])).all()


def enumerated(network, inputs, labels, moves, loss, stop, bounds=(0.0, 1.0)):
    """Return the movement that each image shall get, from all of them (N, K, 3) by plain loops."""
    with torch.no_grad():
        logits = [network(spatial.transform(inputs, own, bounds)) for own in moves.unbind(1)]
    wrong = torch.stack([part.argmax(1) != labels for part in logits], 1).tolist()
    scores = torch.stack([losses.LOSSES[loss](part, labels) for part in logits], 1).tolist()
    result = []
    for own, fools, ranks in zip(moves, wrong, scores, strict=True):
        if stop and any(fools):
            result.append(own[fools.index(True)])
        else:
            result.append(max(zip(fools, ranks, own, strict=True), key=lambda entry: entry[:2])[2])
    return torch.stack(result)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
def test_grid_agrees_with_enumeration(tiny, stop, loss):
    network, inputs, labels = tiny(24)
    sizes = {"rotations": 13, "translations": 5, "rotation": 10.0, "translation": 0.3}
    moves = spatial.grid(Parameters(**sizes)).expand(len(inputs), -1, -1)
    expected = enumerated(network, inputs, labels, moves, loss, stop)
    found, facts = attack(network, inputs, labels, size=10, stop=stop, loss=loss, **sizes)
    columns = torch.from_numpy(np.stack([facts["rotation"], facts["tx"], facts["ty"]], 1))
    assert torch.equal(columns, expected)
    assert (found - spatial.transform(inputs, expected, (0.0, 1.0))).abs().max() < 1e-6
    right = network(found).argmax(1) == labels
    assert 2 <= int(right.sum()) <= 20
    if not stop:
        assert (facts["queries"] == 325).all()
        return
    order = (moves == expected[:, None]).all(2).int().argmax(1)
    ends = np.array([1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 320, 325])  # looks double up to CHUNK movements
    seen = torch.from_numpy(ends[np.searchsorted(ends, order.numpy() + 1)])
    assert torch.equal(torch.from_numpy(facts["queries"]), torch.where(right, 325, seen))
    assert len(set(facts["queries"].tolist())) > 4


def test_wrong_comes_before_loss_within_a_look_and_across():
    moves = torch.arange(2 * 3 * 3.0).view(2, 3, 3)
    loss, right = torch.tensor([[5.0, 1.0, 2.0], [1.0, 3.0, 2.0]]), torch.zeros(2, 3, dtype=torch.bool)
    wrong = torch.tensor([[False, True, True], [False, False, False]])
    places, worst = torch.tensor([2, 0]), spatial.Worst(torch.zeros(3, 1), stop=False)
    worst.update(places, moves, loss, wrong)
    assert torch.equal(worst.moves[places], torch.stack([moves[0, 2], moves[1, 1]]))
    assert worst.wrong.tolist() == [False, False, True] and worst.queries.tolist() == [3, 0, 3]
    worst.update(places, moves + 100, loss + torch.tensor([[9.0], [0.0]]), right)
    assert torch.equal(worst.moves[places], torch.stack([moves[0, 2], moves[1, 1]]))  # high but right; no higher
    worst.update(places, moves + 200, loss - 1, ~wrong)
    assert torch.equal(worst.moves[places], torch.stack([moves[0, 0] + 200, moves[1, 1] + 200]))
    assert worst.loss[places].tolist() == [4.0, 2.0] and not worst.moves[1].any()


@pytest.mark.parametrize("stop", [True, False])
def test_random_agrees_with_enumeration(tiny, stop):
    network, inputs, labels = tiny(40)
    moves = spatial.drawn(Parameters(method="random"), 20, range(40), context())
    for bounds in ((0.0, 1.0), (-1.0, 1.0), None):  # what lies outside of an image differs
        expected = enumerated(network, inputs, labels, moves, "cross-entropy", stop, bounds)
        ctx = context(bounds=bounds)
        _, facts = attack(network, inputs, labels, size=7, ctx=ctx, method="random", draws=20, stop=stop)
        assert torch.equal(torch.from_numpy(np.stack([facts["rotation"], facts["tx"], facts["ty"]], 1)), expected)


def test_draws_fill_the_limits_and_belong_to_their_image():
    parameters = Parameters(method="random", rotation=40, translation=2)
    moves = spatial.drawn(parameters, 60, range(30), context())
    assert moves.shape == (30, 61, 3) and not moves[:, 0].any()
    free = moves[:, 1:].flatten(0, 1) / torch.tensor([40.0, 2.0, 2.0])
    assert free.abs().max() <= 1 and (free.amax(0) > 0.98).all() and (free.amin(0) < -0.98).all()
    assert free.mean(0).abs().max() < 0.06 and (free.square().mean(0) - 1 / 3).abs().max() < 0.03
    assert torch.corrcoef(free.T).triu(1).abs().max() < 0.1 and len(free.unique(dim=0)) == 1800
    assert torch.equal(spatial.drawn(parameters, 60, range(10, 12), context()), moves[10:12])
    assert not torch.equal(spatial.drawn(parameters, 60, range(30), context(1)), moves)


@pytest.mark.parametrize("stop", [True, False])
def test_more_movements_never_fool_fewer(lenet, digit_images, stop):
    images, labels = (part[:50] for part in digit_images)
    weak = {"rotation": 12.0, "translation": 1.0, "stop": stop}
    sweeps = [
        [{"rotations": count, "translations": 3} for count in (1, 3, 5, 9)],
        [{"method": "random", "draws": count} for count in (1, 4, 12, 40)],
        [{"method": "first-order", "starts": 2, "steps": count} for count in (0, 1, 3, 9)],
    ]
    for sweep in sweeps:
        wrong = []
        for changes in sweep:
            found, _ = attack(lenet, images, labels, **weak, **changes)
            wrong.append(lenet(found).argmax(1) != labels)
        for fewer, more in itertools.pairwise(wrong):
            assert (more | ~fewer).all()
        assert wrong[-1].sum() > wrong[0].sum()


def test_stopping_changes_no_success(lenet, digit_images):
    images, labels = (part[:40] for part in digit_images)
    for changes in ({"rotation": 10.0, **FEW}, {"method": "random"}, {"method": "first-order", "starts": 2}):
        both = [attack(lenet, images, labels, translation=1.0, stop=stop, **changes) for stop in (True, False)]
        wrong = [lenet(found).argmax(1) != labels for found, _ in both]
        assert torch.equal(*wrong) and 0 < wrong[0].float().mean() < 1
        loss = [losses.cross_entropy(lenet(found), labels) for found, _ in both]
        assert (loss[1] >= loss[0] - 1e-5).all() and (loss[1] > loss[0] + 1e-3).any()
        assert both[0][1]["queries"].sum() < both[1][1]["queries"].sum()


def test_gradients_lead_up_to_the_limits(affine):
    # Two spots on a ramp: the loss rises as they move to the right and down, and does not depend on much else.
    rows, columns = torch.meshgrid(torch.arange(15.0), torch.arange(15.0), indexing="ij")
    spot = torch.exp(-((rows - 7) ** 2 + (columns - 7) ** 2) / 8).view(1, 1, 15, 15)
    network = affine(torch.stack([torch.zeros(225), (2 * columns + rows).flatten()]), torch.tensor([1e4, 0.0]))
    label = torch.tensor([0])
    for start in ({"starts": 1}, {"starts": 4}):
        parameters = {"method": "first-order", "translation": 2.0, "loss": "margin", "step": 0.25, **start}
        found, facts = attack(network, spot, label, **parameters, steps=8)
        assert facts["tx"] == pytest.approx([2.0]) and facts["ty"] == pytest.approx([2.0])
        assert facts["queries"] == 9 * start["starts"] and network(found)[0, 1] > network(spot)[0, 1] + 10
    _, facts = attack(network, spot, label, **parameters | {"starts": 1}, steps=3)
    assert facts["tx"] == pytest.approx([1.5])  # three steps of a quarter of the limit
    bar = torch.zeros(1, 1, 15, 15)
    bar[:, :, 7, 2:13] = 1
    tilted = spatial.transform(bar, torch.tensor([[25.0, 0.0, 0.0]]))
    network = affine(torch.stack([torch.zeros(225), tilted.flatten()]), torch.tensor([1e4, 0.0]))
    _, facts = attack(network, bar, label, method="first-order", loss="margin", translation=0.0, starts=1, step=0.1)
    assert 20 <= facts["rotation"][0] <= 30


@pytest.mark.parametrize("network", ["mlp", "lenet"])
def test_gradients_are_worth_their_queries(network, request, digit_images):
    model, (images, labels) = request.getfixturevalue(network), (part[:100] for part in digit_images)
    limits = {"rotation": 15.0, "translation": 1.0}
    shares = []
    for changes in ({"method": "random", "draws": 43}, {"method": "first-order", "starts": 4, "steps": 10}):
        found, _ = attack(model, images, labels, **limits, **changes)
        shares.append(float((model(found).argmax(1) == labels).float().mean()))
    assert shares[1] <= shares[0] < float((model(images).argmax(1) == labels).float().mean()) - 0.05


@pytest.mark.parametrize("changes", [FEW, {"method": "random"}, {"method": "first-order", "step": 1.0, "steps": 4}])
def test_limits_and_bounds_are_kept(lenet, digit_images, changes):
    images, labels = (part[:30] for part in digit_images)
    for stop in (True, False):
        found, facts = attack(lenet, images, labels, rotation=7.0, translation=0.7, stop=stop, **changes)
        assert np.abs(facts["rotation"]).max() <= 7 + 1e-6 and np.abs(facts["rotation"]).max() > 3
        assert max(np.abs(facts["tx"]).max(), np.abs(facts["ty"]).max()) <= 0.7 + 1e-6
        assert found.min() >= 0 and found.max() <= 1 and found.dtype == torch.float32 and not found.requires_grad
        moves = torch.from_numpy(np.stack([facts["rotation"], facts["tx"], facts["ty"]], 1))
        assert torch.equal(spatial.transform(images, moves, (0.0, 1.0)), found)


@pytest.mark.parametrize("changes", [FEW, {"method": "random"}, {"method": "first-order"}])
def test_wrong_images_stay_and_queries_are_counted(mlp, digit_images, changes):
    images, labels = digit_images[0][:40], digit_images[1][:40].clone()
    labels[:9] = (mlp(images[:9]).argmax(1) + 1) % 10
    rows = []

    def watched(inputs):
        rows.append(len(inputs))
        return mlp(inputs)

    found, facts = attack(watched, images, labels, size=17, **changes)
    assert torch.equal(found[:9], images[:9])
    assert (facts["queries"][:9] == (5 if "method" in changes and changes["method"] == "first-order" else 1)).all()
    assert facts["queries"].sum() == sum(rows) and max(rows) <= 256


@pytest.mark.parametrize("changes", [FEW, {"method": "random"}, {"method": "first-order"}])
@pytest.mark.parametrize("stop", [True, False])
def test_a_model_that_cannot_be_fooled_leaves_images_alone(affine, changes, stop):
    network = affine(torch.zeros(3, 64), torch.tensor([1.0, 0.0, 0.0]))
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    found, facts = attack(network, images, torch.zeros(5, dtype=torch.int64), stop=stop, **changes)
    assert torch.equal(found, images) and not any(facts[name].any() for name in ("rotation", "tx", "ty"))


@pytest.mark.parametrize("changes", [FEW, {"method": "random"}, {"method": "first-order", "starts": 2, "steps": 4}])
def test_batch_and_order_change_nothing(lenet, digit_images, changes):
    images, labels = (part[:30] for part in digit_images)
    weak = {"rotation": 15.0, "translation": 1.0, **changes}
    whole, facts = attack(lenet, images, labels, size=30, **weak)
    for size in (1, 7):
        parts, others = attack(lenet, images, labels, size=size, **weak)
        assert (parts - whole).abs().max() < 1e-5
        assert all(np.allclose(facts[name], others[name], atol=1e-5) for name in facts)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(5))
    shuffled, _ = attack(lenet, images[order], labels[order], ctx=context(positions=order), **weak)
    assert (shuffled - whole[order]).abs().max() < 1e-5


def test_late_thinning_changes_nothing(lenet, digit_images, monkeypatch):
    images, labels = (part[:30] for part in digit_images)
    found = []
    for thin in (interface.thin_now, lambda iteration, device: iteration % 3 == 2):
        monkeypatch.setattr(interface, "thin_now", thin)
        found.append(attack(lenet, images, labels, method="first-order", starts=2, steps=6, rotation=15.0))
    assert (found[0][0] - found[1][0]).abs().max() < 1e-5
    assert found[0][1]["queries"].tolist() == found[1][1]["queries"].tolist()


def test_network_and_images_are_left_alone(mlp, digit_images, snapshot, unchanged):
    network = torch.nn.Sequential(mlp, torch.nn.BatchNorm1d(10)).eval()
    images, labels = (part[:12] for part in digit_images)
    copy, before = images.clone(), snapshot(network)
    for changes in (FEW, {"method": "random"}, {"method": "first-order"}):
        attack(network, images, labels, **changes)
    assert torch.equal(images, copy) and not images.requires_grad and unchanged(before, network)


def test_grid_and_random_need_no_gradients(mlp, digit_images):
    images, labels = (part[:20] for part in digit_images)
    for changes in (FEW, {"method": "random"}):
        attack(lambda inputs: mlp(inputs).detach(), images, labels, **changes)


def test_a_space_without_bounds_is_attacked(mlp, digit_images):
    inputs, labels = mlp.preprocessing(digit_images[0][:40]), digit_images[1][:40]
    found, facts = attack(mlp.network, inputs, labels, ctx=context(bounds=None), **FEW)
    assert found.min() < -1 and (mlp.network(found).argmax(1) == labels).float().mean() < 0.5
    moves = torch.from_numpy(np.stack([facts["rotation"], facts["tx"], facts["ty"]], 1))
    assert torch.equal(spatial.transform(inputs, moves), found)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
@pytest.mark.parametrize("network", ["mlp", "lenet"])
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_foolbox_draws_the_same_grid(network, bounds, request, digit_images):
    model = request.getfixturevalue(network)
    images, labels = (part[:200] for part in digit_images)
    victim, inputs = (model, images) if bounds else (model.network, model.preprocessing(images))
    changes = {"rotation": 12.0, "translation": 1.0, **FEW}
    both = [
        attack(victim, inputs, labels, ctx=context(bounds=bounds), engine=engine, **changes)
        for engine in spatial.ENGINES
    ]
    wrong = [victim(found).argmax(1) != labels for found, _ in both]
    assert int((wrong[0] != wrong[1]).sum()) <= 1 and 0.2 < wrong[0].float().mean() < 0.99
    apart = (both[0][0] - both[1][0]).abs().flatten(1).amax(1)[wrong[0] & wrong[1]]
    assert (apart > 1e-4 * inputs.abs().max()).sum() <= 1
    same = both[0][1]["rotation"] == both[1][1]["rotation"]
    assert same[(wrong[0] & wrong[1]).numpy()].mean() > 0.99


def as_foolbox(rotations, translations, rotation, translation, side):
    """Return the movements of Foolbox's grid in its order as ours (K, 3).

    Foolbox samples at R(angle) p + t (side - 1) / side, so an image is first shifted by the negative of that and then
    turned by the same angle, counter-clockwise; to turn first is to shift by the turned vector.
    """
    moves = []
    shifts = np.linspace(-translation, translation, translations) * (side - 1) / side
    for angle, dx, dy in itertools.product(np.linspace(-rotation, rotation, rotations), shifts, shifts):
        turn = np.deg2rad(angle)
        moves.append([angle, -(np.cos(turn) * dx + np.sin(turn) * dy), -(-np.sin(turn) * dx + np.cos(turn) * dy)])
    return torch.tensor(moves, dtype=torch.float32)


@pytest.mark.parametrize("network", ["mlp", "lenet"])
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_foolbox_searches_the_same_where_its_convention_is_followed(network, request, digit_images):
    model = request.getfixturevalue(network)
    images, labels = (part[:200] for part in digit_images)
    moves = as_foolbox(7, 3, 12.0, 1.0, 28)
    moves = torch.cat([torch.zeros(1, 3), moves])  # Foolbox looks at the image as it is first, too
    with torch.no_grad():
        worst = spatial.search(model, images, labels, moves.expand(200, -1, -1), Parameters(), (0.0, 1.0))
    ours = spatial.transform(images, worst.moves, (0.0, 1.0))
    theirs = foolbox.attacks.SpatialAttack(1.0, 12.0, num_translations=3, num_rotations=7).run(
        foolbox_engine.model(model, images, (0.0, 1.0)), images, foolbox.criteria.Misclassification(labels)
    )
    wrong = [model(found).argmax(1) != labels for found in (ours, theirs)]
    assert int((wrong[0] != wrong[1]).sum()) <= 1 and 0.2 < wrong[0].float().mean() < 0.99
    apart = (ours - theirs).abs().flatten(1).amax(1)[wrong[0] & wrong[1]]
    assert (apart > 1e-4).sum() <= 1


@pytest.mark.parametrize("changes", [{"method": "random"}, {"stop": False}])
def test_foolbox_is_refused_what_it_lacks(mlp, digit_images, changes):
    images, labels = (part[:4] for part in digit_images)
    with pytest.raises(RedoubtError, match=r"needs `method: grid`, `stop: true` and square images$"):
        attack(mlp, images, labels, engine="foolbox", **changes)


@pytest.mark.parametrize("values", [{"rotation": 181}, {"translation": -1}, {"draws": 0}, {"step": 2}, {"method": "x"}])
def test_parameters_out_of_range_are_refused(values):
    with pytest.raises(RedoubtError):
        registry.parameters("attacks", "spatial", values)
