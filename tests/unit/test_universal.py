"""Universal perturbations: closed forms on affine networks, the ball, and what crafting is given and returns."""

import itertools
import subprocess
import sys

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt import registry
from redoubt.attacks import deepfool, universal
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError
from redoubt.judging.estimate import estimate

Parameters = universal.Parameters


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def craft(network, images, radius, seed=0, bounds=None, **changes):
    parameters = Parameters(radii=[1.0], **changes)
    return universal.craft(network, images, parameters, radius, seeded(seed), bounds)


def attack(network, inputs, labels, size=64, ctx=None, **parameters):
    """Return radius to perturbed inputs (N, ...), and the facts of each radius."""
    moved, facts = {}, {}
    batches = Batches(inputs, labels, size)
    for part in universal.run(network, batches, Parameters(**parameters), ctx or Context(seeded())):
        moved.setdefault(part.facts["radius"], []).append(part.inputs)
        facts[part.facts["radius"]] = part.facts
    return {radius: torch.cat(parts) for radius, parts in moved.items()}, facts


def fooling(network, inputs, moved):
    return float((network(inputs).argmax(1) != network(moved).argmax(1)).float().mean())


@pytest.fixture
def halves(affine):
    """A two-class affine network, images that it puts into class 0, its unit normal towards class 1 and distances."""
    draw = seeded(1)
    weight = torch.randn(2, 30, generator=draw)
    network = affine(weight, torch.zeros(2))
    normal = (weight[1] - weight[0]) / (weight[1] - weight[0]).norm()
    images = torch.randn(40, 30, generator=draw)
    distances = torch.linspace(0.5, 2.0, 40)[torch.randperm(40, generator=draw)]
    images = images - (images @ normal + distances)[:, None] * normal
    return network, images, normal, distances


def test_import_leaves_torch_alone():
    code = "import sys; import redoubt.attacks.universal; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("block", [1, 7, 40])
def test_direction_is_the_normal_of_two_classes(halves, block):
    network, images, normal, distances = halves
    v, history = craft(network, images, 5.0, block=block, target=1.0, passes=20)
    assert torch.cosine_similarity(v, normal, 0) > 1 - 1e-6
    assert history[-1] == 1.0 and distances.max() < v.norm()
    assert v.norm() < 1.02 * distances.max() + (0.0 if block == 1 else 1.25)  # steps of several images add up
    v, history = craft(network, images, 1.3, block=block, target=1.0, passes=20)  # too short for a part of the images
    assert torch.cosine_similarity(v, normal, 0) > 1 - 1e-6 and float(v.norm()) == pytest.approx(1.3, abs=1e-6)
    assert history[-1] == pytest.approx(float((distances < 1.3).float().mean()))


def test_one_image_at_a_time_has_a_closed_form(halves):
    network, images, normal, distances = halves
    order = torch.randperm(40, generator=Context(seeded(3)).generators([0], "universal", 0)[0])
    along = 0.0
    for distance in distances[order].tolist():
        if distance >= along:
            along += 1.1 * (distance - along)
    v, history = craft(network, images, 50.0, seed=3, block=1, passes=1, overshoot=0.1)
    assert (v - along * normal).norm() < 1e-4 and history == [float((distances < along).float().mean())]


@pytest.mark.parametrize(("radius", "length"), [(50.0, 5**0.5), (8.0, 2.0), (2.0, 1.5)])
def test_a_block_of_two_has_a_closed_form(affine, radius, length):
    # Class 1 lies to the right of class 0, class 2 above it; the two images are 1 and 2 away from one of them.
    network = affine(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.zeros(3))
    images = torch.tensor([[-1.0, -9.0], [-9.0, -2.0]])
    v, _ = craft(network, images, radius, block=2, passes=1, overshoot=0.0)
    assert torch.allclose(v, torch.tensor([2.0, 1.0]) / 5**0.5 * length, atol=1e-5)


def test_steps_are_combined_by_direction():
    steps = torch.tensor([[3.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
    assert torch.allclose(universal.combined(steps[:1], 0.1), steps[0])
    assert torch.allclose(universal.combined(steps, 100.0), torch.tensor([0.25, -0.75]) * 4)
    assert torch.allclose(universal.combined(steps, 0.1), torch.tensor([0.25, -0.75]) / 0.625**0.5 * 2)
    assert torch.equal(universal.combined(steps[2:], 1.0), torch.zeros(2))
    assert torch.allclose(universal.combined(torch.cat([steps, -steps]), 1.0), torch.zeros(2))
    tiny = torch.tensor([[1e-22, 0.0], [0.0, 1.0]])  # of a gradient that nearly vanished
    assert torch.allclose(universal.combined(tiny, 2.0), torch.tensor([0.5, 0.0]))
    pictures = torch.randn(5, 2, 3, 4, generator=seeded())
    flat = universal.combined(pictures.flatten(1), 9.0)
    assert torch.allclose(universal.combined(pictures, 9.0).flatten(), flat)


def test_projection():
    v = torch.tensor([[3.0, 4.0]])
    assert torch.equal(universal.project(v, 6.0), v) and torch.allclose(universal.project(v, 2.5), v / 2)
    assert torch.allclose(universal.project(v, 6.0, "sphere"), v * 1.2)
    assert torch.allclose(universal.project(v, 2.5, "sphere"), v / 2)
    for onto in ("ball", "sphere"):
        assert torch.equal(universal.project(torch.zeros(2), 1.0, onto), torch.zeros(2))


def test_the_sphere_is_always_reached_and_the_ball_where_needed(halves):
    network, images, _, _ = halves
    for onto, shortest, longest in (("ball", 2.0, 3.5), ("sphere", 5.0 - 1e-6, 5.0 + 1e-6)):
        v, history = craft(network, images, 5.0, project=onto, target=1.0, block=4)
        assert shortest <= float(v.norm()) <= longest and history[-1] == 1.0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    radius=st.floats(0.01, 30.0),
    block=st.sampled_from([1, 3, 50]),
    onto=st.sampled_from(["ball", "sphere"]),
)
def test_the_radius_is_never_passed(seed, radius, block, onto):
    draw = seeded(seed)
    weight, images = torch.randn(4, 10, generator=draw), torch.randn(20, 10, generator=draw)
    v, history = craft(lambda x: x @ weight.T, images, radius, block=block, project=onto, passes=3, target=1.0)
    assert v.norm() <= radius + 1e-6 * max(1.0, radius) and len(history) <= 3
    assert onto == "ball" or v.norm() >= radius - 1e-6 * max(1.0, radius)


@pytest.mark.parametrize("network", ["mlp", "lenet"])
def test_the_fooling_rate_rises_with_the_radius(network, request, digit_images):
    model, (images, labels) = request.getfixturevalue(network), digit_images
    ctx = Context(seeded(), bounds=(0.0, 1.0), crafting=images[:200])
    rhos = [0.1, 0.3, 0.6, 1.0]
    moved, facts = attack(model, images[200:], labels[200:], ctx=ctx, rhos=rhos, passes=3)
    rates = [fooling(model, images[200:], part) for part in moved.values()]
    mean = float(images[:200].flatten(1).norm(dim=1).mean())
    assert [facts[radius]["rho"] for radius in facts] == pytest.approx(rhos)
    assert list(facts) == pytest.approx([rho * mean for rho in rhos])
    # Each radius has a search of its own, which at a larger one may end at a perturbation that fools a little fewer.
    assert rates[0] < 0.3 and min(rates[1:]) > rates[0] + 0.1 and rates[-1] > 0.5
    assert all(part.min() >= 0 and part.max() <= 1 for part in moved.values())


def test_one_perturbation_for_all_images(mlp, digit_images):
    inputs, labels = mlp.preprocessing(digit_images[0][:60]), digit_images[1][:60]
    moved, _ = attack(mlp.network, inputs, labels, size=25, rhos=[0.1, 0.2], passes=2)
    for (radius, part), other in zip(moved.items(), [0.2, 0.1], strict=True):
        v = part - inputs
        assert (v - v[0]).abs().max() < 1e-4 * v.abs().max()
        assert v[0].norm() <= radius * (1 + 1e-5) and other
    found = universal.sweep(mlp.network, inputs, Parameters(rhos=[0.1, 0.2], passes=2), seeded(), None)
    for (radius, part), one in zip(moved.items(), found, strict=True):
        assert torch.equal(part, inputs + one.v) and one.radius == radius and one.v.shape == inputs[0].shape


def test_clipping_is_seen_while_crafting_and_done_after(mlp, digit_images):
    images, labels = (part[:80] for part in digit_images)
    ctx = Context(seeded(), bounds=(0.0, 1.0))
    moved, facts = attack(mlp, images, labels, ctx=ctx, radii=[3.0], passes=2, target=1.0)
    v, history = craft(mlp, images, 3.0, bounds=(0.0, 1.0), passes=2, target=1.0)
    assert torch.equal(moved[3.0], (images + v).clamp(0, 1)) and not torch.equal(moved[3.0], images + v)
    assert fooling(mlp, images, moved[3.0]) == pytest.approx(max(history))
    assert facts[3.0]["passes"] == 2 and not torch.equal(v, craft(mlp, images, 3.0, passes=2, target=1.0)[0])


def test_what_clipping_takes_away_is_made_up_for():
    # The first element is at its bound, so that clipping leaves a tenth of the first step, which is too little.
    def network(inputs):
        first, second = (inputs.flatten(1) - images[:1].flatten()).T
        other = 3 * first + second - 0.3 + 10 * (second - 0.15).relu()
        return torch.stack([0 * other, other], 1)

    images, found = torch.tensor([1.0, 0.2]).expand(12, 1, 1, 2), {}
    for bounds in ((0.0, 1.0), None):
        v, history = craft(network, images, 3.0, bounds=bounds, passes=2, block=1, target=1.0)
        found[bounds] = fooling(network, images, (images + v).clamp(0, 1))
        assert max(history) == 1.0
    assert found == {(0.0, 1.0): 1.0, None: 0.0}


def test_unclipped_perturbations_leave_the_bounds_and_keep_their_size(mlp, digit_images):
    images, labels = (part[:80] for part in digit_images)
    ctx = Context(seeded(), bounds=(0.0, 1.0))
    moved, facts = attack(mlp, images, labels, ctx=ctx, rhos=[0.4], passes=2, target=1.0, clip=False, project="sphere")
    ((radius, part),) = moved.items()
    v, _ = craft(mlp, images, radius, passes=2, target=1.0, project="sphere")  # no bounds at all
    assert torch.equal(part, images + v) and (part.min() < 0 or part.max() > 1)
    clipped = attack(mlp, images, labels, ctx=ctx, rhos=[0.4], passes=2, target=1.0, project="sphere")[0][radius]
    sizes = []
    for inputs in (part, clipped):
        length = (inputs - images).flatten(1).double().norm(dim=1)
        frame = pd.DataFrame({"l2": length, "x_l2": 1.0, "rho": 0.4, "radius": radius})
        sizes.append(estimate("applied-rho", frame.assign(index=range(80), seed=0)).value)
    mean = float(images.flatten(1).double().norm(dim=1).mean())
    assert sizes[0] == pytest.approx(0.4, rel=1e-5)
    assert sizes[1] == pytest.approx(float((clipped - images).flatten(1).norm(dim=1).mean()) / mean, rel=1e-5)
    assert sizes[1] < 0.36 and facts[radius]["rho"] == 0.4


def test_the_best_pass_is_returned(mlp, digit_images):
    images = digit_images[0][:100]
    falls = 0
    for seed in range(4):
        v, history = craft(mlp, images, 2.0, seed, passes=5, target=1.0, block=8)
        falls += history[-1] < max(history)
        assert len(history) == 5 and fooling(mlp, images, images + v) == pytest.approx(max(history))
    assert falls


def test_crafting_stops_at_the_target_or_the_cap(mlp, digit_images):
    images = digit_images[0][:100]
    _, whole = craft(mlp, images, 2.5, passes=6, target=1.0)
    goal = max(whole[:2])
    _, history = craft(mlp, images, 2.5, passes=6, target=goal)
    assert history == whole[: whole.index(goal) + 1] and len(whole) == 6
    assert craft(mlp, images, 2.5, passes=6, target=goal + 1e-6)[1] != history


def test_deepfool_continues_from_perturbed_images_that_are_not_fooled(mlp, digit_images, monkeypatch):
    images, calls, original = digit_images[0][:60], [], deepfool.perturb

    def watched(network, points, parameters, bounds):
        calls.append((points, parameters))
        return original(network, points, parameters, bounds=bounds)

    monkeypatch.setattr(deepfool, "perturb", watched)
    craft(mlp, images, 2.0, block=20, passes=2, target=1.0, iterations=7, overshoot=0.3, candidates=4)
    clean, seen = mlp(images).argmax(1), 0
    assert (
        4 <= len(calls) <= 6
        and calls[0][1].model_dump() == deepfool.Parameters(iterations=7, overshoot=0.3, candidates=4).model_dump()
    )
    assert len(calls[0][0]) == 20 and len(calls[-1][0]) < 20
    for number, (points, _) in enumerate(calls):
        apart = torch.cdist(points.flatten(1), images.flatten(1))
        v = points - images[apart.argmin(1)]
        assert (v - v[0]).abs().max() < 1e-5 and (v[0].norm() > 0.1) == (number > 0)
        assert torch.equal(mlp(points).argmax(1), clean[apart.argmin(1)])
        seen += len(points)
    assert seen < 120


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_steps_begin_at_images_as_the_network_sees_them(mlp, digit_images, monkeypatch, bounds):
    calls, original = [], deepfool.perturb

    def watched(network, points, *given, **named):
        calls.append(points)
        return original(network, points, *given, **named)

    monkeypatch.setattr(deepfool, "perturb", watched)
    craft(mlp, digit_images[0][:40], 3.0, block=10, passes=2, target=1.0, bounds=bounds)
    points = torch.cat(calls)
    assert (float(points.min()) >= 0.0 and float(points.max()) <= 1.0) == (bounds is not None)


def test_every_pass_has_an_order_of_its_own(affine):
    network, images, orders = affine(torch.zeros(2, 3), torch.tensor([1.0, 0.0])), torch.rand(12, 3), []

    def watched(inputs):
        if len(inputs) == 1:
            orders.append(int((images == inputs).all(1).int().argmax()))
        return network(inputs)

    v, history = craft(watched, images, 1.0, block=1, passes=3)
    orders = [place for place, _ in itertools.groupby(orders)]
    passes = [tuple(orders[start : start + 12]) for start in (0, 12, 24)]
    assert all(sorted(order) == list(range(12)) for order in passes) and len({*passes, tuple(range(12))}) == 4
    assert history == [0.0] * 3 and torch.equal(v, torch.zeros(3))


def test_seeds_batches_labels_and_the_global_generator(mlp, digit_images):
    images, labels = (part[:50] for part in digit_images)
    runs = []
    for size, seed, truth in ((50, 0, labels), (7, 0, 9 - labels), (50, 1, labels)):
        generator = seeded(seed)
        state = generator.get_state()
        ctx = Context(generator, bounds=(0.0, 1.0))
        runs.append(attack(mlp, images, truth, size, ctx, rhos=[0.3], passes=2, block=8)[0].popitem()[1])
        assert torch.equal(generator.get_state(), state)
        torch.rand(5)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_crafting_images_come_from_the_context(mlp, digit_images):
    (images, labels), others = (part[:40] for part in digit_images), digit_images[0][100:160]
    parameters = {"rhos": [0.3], "passes": 2}
    own, _ = attack(mlp, images, labels, **parameters)
    ((radius, moved),) = attack(mlp, images, labels, ctx=Context(seeded(), crafting=others), **parameters)[0].items()
    ((own_radius, own_moved),) = own.items()
    assert torch.equal(own_moved, images + craft(mlp, images, own_radius, passes=2)[0])
    assert own_radius == pytest.approx(0.3 * float(images.flatten(1).norm(dim=1).mean()), rel=1e-6)
    assert radius == pytest.approx(0.3 * float(others.flatten(1).norm(dim=1).mean()), rel=1e-6)
    expected, _ = craft(mlp, others, radius, passes=2)
    assert torch.equal(moved, images + expected)


def test_values_of_a_sweep_are_crafted_alone_and_come_in_order(mlp, digit_images):
    images, labels = (part[:40] for part in digit_images)
    batches = Batches(images, labels, 16)
    parts = list(universal.run(mlp, batches, Parameters(radii=[1.0, 2.0], passes=1), Context(seeded())))
    assert [(part.start, part.facts["radius"]) for part in parts] == [(s, r) for r in (1.0, 2.0) for s in (0, 16, 32)]
    mean = float(images.flatten(1).norm(dim=1).mean())
    assert parts[0].facts["rho"] == pytest.approx(1 / mean) and parts[0].facts["passes"] == 1
    for part in parts:
        (v,) = part.shared.values()
        assert torch.equal(part.inputs, images[part.start : part.start + 16] + v) and v.shape == images[0].shape
    alone, _ = attack(mlp, images, labels, rhos=[parts[-1].facts["rho"]], passes=1)
    assert torch.allclose(alone.popitem()[1], torch.cat([part.inputs for part in parts[3:]]), atol=1e-6)


@pytest.mark.parametrize("network", ["mlp", "lenet"])
def test_blocks_fool_no_fewer_than_single_images(network, request, digit_images):
    model, images = request.getfixturevalue(network), digit_images[0][:120]
    rates = {
        block: [max(craft(model, images, radius, block=block, passes=2, target=1.0)[1]) for radius in (1.5, 2.5)]
        for block in (1, Parameters(radii=[1.0]).block)
    }
    assert all(many >= single for single, many in zip(*rates.values(), strict=True))


def test_network_and_images_are_left_alone(mlp, digit_images, snapshot, unchanged):
    network = torch.nn.Sequential(mlp, torch.nn.BatchNorm1d(10)).eval()
    images, labels = (part[:20] for part in digit_images)
    copy, before = images.clone(), snapshot(network)
    moved, _ = attack(network, images, labels, rhos=[0.3], passes=2)
    assert torch.equal(images, copy) and not images.requires_grad and unchanged(before, network)
    assert not moved.popitem()[1].requires_grad


@pytest.mark.parametrize(
    "values",
    [{}, {"rhos": [0.1], "radii": [1.0]}, {"rhos": [0.2, 0.1]}, {"radii": [1.0, 1.0]}, {"rhos": []}, {"rhos": [0.0]}],
)
def test_radii_are_one_ascending_sweep(values):
    with pytest.raises(RedoubtError):
        registry.parameters("attacks", "universal", values)
