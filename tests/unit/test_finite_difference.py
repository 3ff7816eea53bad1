"""Finite differences: autograd and closed forms, groups, bounds, budgets and the white-box twin."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt import registry
from redoubt.attacks import _losses as losses
from redoubt.attacks import finite_difference, interface
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError

estimate = finite_difference.estimate
EXACT = {"gradient": "exact"}


class Watched:
    """A network that remembers every input it was asked about."""

    def __init__(self, network):
        self.network, self.seen = network, []

    def __call__(self, inputs):
        self.seen.append(inputs.detach().clone())
        return self.network(inputs)

    @property
    def inputs(self):
        return torch.cat(self.seen)


def context(seed=0, bounds=(0.0, 1.0), positions=None):
    return Context(torch.Generator().manual_seed(seed), bounds=bounds, positions=positions)


def attack(network, inputs, labels, size=64, ctx=None, **parameters):
    """Return adversarial inputs (N, ...), iterations (N,) and queries (N,) for one epsilon."""
    batches = Batches(inputs, labels, size)
    parts = list(finite_difference.run(network, batches, finite_difference.Parameters(**parameters), ctx or context()))
    facts = [torch.cat([torch.from_numpy(part.facts[name]) for part in parts]) for name in ("iterations", "queries")]
    return torch.cat([part.inputs for part in parts]), *facts


def gradient(network, inputs, labels, loss):
    """Return the gradient by autograd."""
    points = inputs.clone().requires_grad_()
    return torch.autograd.grad(losses.LOSSES[loss](network(points), labels).sum(), points)[0]


def right(network, inputs, labels):
    """Return the number of images that are classified right."""
    return int((network(inputs).argmax(1) == labels).sum())


def orders(count, size, seed=0):
    """Return a random order of coordinates for each of `count` images."""
    draw = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(size, generator=draw) for _ in range(count)])


@pytest.fixture
def smooth():
    """Function (dtype) to a smooth MLP on inputs (N, 2, 5, 3), inputs in [0.2, 0.8] and labels."""

    def make(dtype):
        torch.manual_seed(0)
        layers = [torch.nn.Flatten(), torch.nn.Linear(30, 40), torch.nn.Tanh(), torch.nn.Linear(40, 20)]
        network = torch.nn.Sequential(*layers, torch.nn.Softplus(), torch.nn.Linear(20, 6)).to(dtype).eval()
        inputs = 0.2 + 0.6 * torch.rand(12, 2, 5, 3, dtype=dtype)
        return network, inputs, torch.arange(12) % 6

    return make


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_estimate_is_the_gradient_of_a_smooth_network(loss, smooth):
    network, inputs, labels = smooth(torch.float32)
    found = estimate(network, inputs, labels, loss, 0.01, (0.0, 1.0))
    exact = gradient(network, inputs, labels, loss)
    assert found.shape == inputs.shape and found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found.flatten(1), exact.flatten(1)).min() > 0.9999
    assert torch.allclose(found, exact, rtol=0.01, atol=1e-3 * float(exact.abs().max()))


def test_error_falls_with_the_square_of_delta(smooth):
    network, inputs, labels = smooth(torch.float64)
    exact = gradient(network, inputs, labels, "log-odds")
    errors = [
        float((estimate(network, inputs, labels, "log-odds", delta) - exact).norm()) for delta in (0.1, 0.05, 0.001)
    ]
    assert 3.8 < errors[0] / errors[1] < 4.2 and errors[2] < 2e-4 * errors[0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), delta=st.sampled_from([1e-3, 0.05, 0.7, 5.0]))
def test_estimate_is_exact_on_an_affine_network_up_to_the_border(seed, size, delta):
    draw = torch.Generator().manual_seed(seed)
    weight, bias = (torch.randn(2, size, generator=draw, dtype=torch.float64) for _ in range(2))
    kind = torch.randint(3, (5, size), generator=draw)
    inputs = torch.rand(5, size, generator=draw, dtype=torch.float64)
    inputs = torch.where(kind == 0, inputs.round(), torch.where(kind == 1, 0.01 * inputs, inputs))
    watched = Watched(lambda x: x @ weight.T + bias[:, 0])
    labels = torch.arange(5) % 2
    found = estimate(watched, inputs, labels, "margin", delta, (0.0, 1.0))
    assert torch.allclose(found, weight[1 - labels] - weight[labels], rtol=1e-9, atol=1e-9)
    assert watched.inputs.min() >= 0 and watched.inputs.max() <= 1 and len(watched.inputs) == 10 * size


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), group=st.integers(1, 14))
def test_a_group_gets_its_mean_derivative(seed, size, group):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(2, size, generator=draw, dtype=torch.float64)
    inputs = 0.3 + 0.4 * torch.rand(4, size, generator=draw, dtype=torch.float64)
    order = orders(4, size, seed)
    watched = Watched(lambda x: x @ weight.T)
    labels = torch.tensor([0, 1, 0, 1])
    found = estimate(watched, inputs, labels, "margin", 0.1, (0.0, 1.0), group, order)
    slope = weight[1 - labels] - weight[labels]
    assert len(watched.inputs) == 4 * 2 * math.ceil(size / group)
    for row, start in itertools.product(range(4), range(0, size, group)):
        members = order[row, start : start + group]
        assert torch.allclose(found[row, members], slope[row, members].mean().expand(len(members)), atol=1e-9)


def test_a_groups_estimate_is_the_derivative_along_its_indicator(smooth):
    network, inputs, labels = smooth(torch.float64)
    order, group = orders(12, 30), 7
    found = estimate(network, inputs, labels, "log-odds", 1e-4, None, group, order).flatten(1)
    exact = gradient(network, inputs, labels, "log-odds").flatten(1)
    for row, start in itertools.product(range(12), range(0, 30, group)):
        indicator = torch.zeros(30, dtype=torch.float64)
        indicator[order[row, start : start + group]] = 1.0
        indicator /= indicator.norm()
        assert torch.allclose(found[row] @ indicator, exact[row] @ indicator, rtol=1e-4, atol=1e-8)


def test_at_the_border_a_group_is_weighed_by_how_far_its_members_move():
    weight = torch.tensor([[0.0] * 4, [1.0, 10.0, 100.0, 1000.0]])
    inputs = torch.tensor([[0.5, 0.0, 0.95, 0.4]])  # they move by 0.2, 0.1, 0.15 and 0.2
    order = torch.tensor([[2, 0, 3, 1]])
    found = estimate(lambda x: x @ weight.T, inputs, torch.tensor([0]), "margin", 0.1, (0.0, 1.0), 2, order)
    one, two = (15 + 0.2) / 0.35, (200 + 1) / 0.3
    assert found[0].tolist() == pytest.approx([one, two, one, two], rel=1e-5)


def test_random_groups_shrink_a_gradient_towards_its_mean():
    weight = torch.zeros(2, 6, dtype=torch.float64)
    weight[1] = torch.tensor([3.0, -2.0, 0.5, 1.0, -4.0, 7.0])
    inputs = torch.zeros(6000, 6, dtype=torch.float64)
    labels = torch.zeros(6000, dtype=torch.int64)
    found = estimate(lambda x: x @ weight.T, inputs, labels, "margin", 0.1, None, 3, orders(6000, 6))
    others = (weight[1].sum() - weight[1]) / 5
    assert torch.allclose(found.mean(0), weight[1] / 3 + 2 / 3 * others, atol=0.1)


def test_coordinates_that_cannot_move_get_zero():
    network = Watched(lambda x: torch.stack([x.sum(1), -x.sum(1)], 1))
    found = estimate(network, torch.ones(2, 3), torch.tensor([0, 1]), "margin", 0.1, (1.0, 1.0))
    assert torch.equal(found, torch.zeros(2, 3)) and (network.inputs == 1).all()


def test_groups_are_partitions_drawn_anew_for_each_image_and_step():
    watched = Watched(lambda x: torch.tensor([1.0, 0.0]).repeat(len(x), 1))
    inputs, labels = torch.zeros(2, 1, 3, 4), torch.zeros(2, dtype=torch.int64)
    options = {"epsilons": [0.1], "steps": 2, "group": 5, "delta": 0.25, "stop": False}
    moved, _, queries = attack(watched, inputs, labels, ctx=context(bounds=None), **options)
    assert torch.equal(moved, inputs) and queries.tolist() == [13, 13]
    probes = watched.inputs[2:].view(2, 2, 3, 2, 12)  # step, image, group, forth and back
    assert torch.equal(probes[..., 0, :], -probes[..., 1, :]) and set(probes.unique().tolist()) == {-0.25, 0.0, 0.25}
    members = probes[..., 0, :] != 0
    assert (members.sum(2) == 1).all() and members.sum(3).sort()[0].tolist() == [[[2, 5, 5]] * 2] * 2
    partitions = {tuple(sorted(map(tuple, some.int().tolist()))) for some in members.flatten(0, 1)}
    assert len(partitions) == 4
    again = Watched(watched.network)
    attack(again, inputs, labels, ctx=context(bounds=None), **options)
    assert torch.equal(again.inputs, watched.inputs)


@pytest.mark.parametrize(
    ("options", "gradient_cost", "check"),
    [
        ({}, 2 * 784, 1),
        ({"group": 100}, 16, 1),
        ({"group": 100, "stop": False}, 16, 0),
        ({"group": 2000}, 2, 1),
        (EXACT, 1, 1),
        ({**EXACT, "group": 100, "stop": False}, 1, 0),
    ],
)
def test_queries_are_counted_exactly(options, gradient_cost, check, mlp, digit_images):
    images, labels = digit_images[0][:8], digit_images[1][:8].clone()
    labels[3] = (labels[3] + 1) % 10
    watched = Watched(mlp)
    _, taken, queries = attack(watched, images, labels, 3, epsilons=[0.2], steps=3, **options)
    assert queries.sum() == len(watched.inputs)
    assert torch.equal(queries, 1 + taken * (gradient_cost + check))
    assert taken[3] == 0 and taken.max() == 3
    if not options:
        assert len(set(taken.tolist())) > 2
    if not check:
        assert (taken[torch.arange(8) != 3] == 3).all()


def test_a_sweep_shares_the_clean_query_and_the_first_gradient(mlp, digit_images):
    images, labels = (part[:5] for part in digit_images)
    watched = Watched(mlp)
    parameters = finite_difference.Parameters(epsilons=[0.0, 0.1, 0.3], group=50)
    parts = list(finite_difference.run(watched, Batches(images, labels, 2), parameters, context()))
    assert [(part.start, part.facts["epsilon"]) for part in parts] == [
        (s, e) for e in (0.0, 0.1, 0.3) for s in (0, 2, 4)
    ]
    assert len(watched.inputs) == 5 + 5 * 32 + 3 * 5
    assert all((part.facts["queries"] == 34).all() for part in parts)
    assert torch.equal(torch.cat([part.inputs for part in parts[:3]]), images)
    alone = attack(mlp, images, labels, epsilons=[0.3], group=50)[0]
    assert torch.equal(torch.cat([part.inputs for part in parts[6:]]), alone)


@pytest.mark.parametrize("steps", [1, 4])
def test_black_box_comes_close_to_the_white_box_and_no_further(steps, mlp, digit_images):
    images, labels = (part[:60] for part in digit_images)
    clean = right(mlp, images, labels)
    options = {"epsilons": [0.15], "steps": steps}
    estimated, exact = (attack(mlp, images, labels, **options, **extra)[0] for extra in ({}, EXACT))
    counts = [right(mlp, moved, labels) for moved in (exact, estimated)]
    assert counts[0] - 1 <= counts[1] <= counts[0] + 3 and counts[1] < clean - 10
    grouped = right(mlp, attack(mlp, images, labels, **options, group=8)[0], labels)
    assert counts[1] < grouped < clean


def test_more_steps_and_larger_balls_fool_more_images(mlp, digit_images):
    images, labels = (part[:60] for part in digit_images)
    clean, counts = right(mlp, images, labels), {}
    for steps in (1, 6):
        parameters = finite_difference.Parameters(epsilons=[0.05, 0.1, 0.2], steps=steps, group=4)
        parts = finite_difference.run(mlp, Batches(images, labels, 60), parameters, context())
        counts[steps] = [right(mlp, part.inputs, labels) for part in parts]
        assert counts[steps] == sorted(counts[steps], reverse=True) and counts[steps][-1] < counts[steps][0] < clean
    assert all(many <= one for one, many in zip(counts[1], counts[6], strict=True)) and counts[6] != counts[1]


def test_single_step_is_the_fast_gradient_sign_of_an_affine_network(affine):
    draw = torch.Generator().manual_seed(3)
    network = affine(torch.randn(2, 20, generator=draw), torch.zeros(2))
    inputs = torch.rand(30, 20, generator=draw)
    labels = network(inputs).argmax(1)
    weight = network[1].weight.detach()
    expected = (inputs + 0.04 * (weight[1 - labels] - weight[labels]).sign()).clamp(0, 1)
    for extra in ({}, EXACT):
        moved, taken, _ = attack(network, inputs, labels, epsilons=[0.04], **extra)
        assert torch.allclose(moved, expected, atol=1e-6) and (taken == 1).all()
        # Steps of epsilon / steps end where one step does.
        moved, taken, _ = attack(network, inputs, labels, epsilons=[0.04], steps=5, stop=False, **extra)
        assert torch.allclose(moved, expected, atol=1e-6) and (taken == 5).all()


@pytest.mark.parametrize(("length", "epsilon", "expected"), [(0.02, 0.1, 0.06), (0.02, 0.05, 0.05), (None, 0.3, 0.3)])
def test_steps_have_their_length_and_stay_in_the_ball(length, epsilon, expected, affine):
    network = affine(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]), torch.tensor([100.0, 0.0]))
    inputs = torch.tensor([[0.5, 0.4]])
    options = {"epsilons": [epsilon], "steps": 3, "step_size": length}
    moved, taken, _ = attack(network, inputs, torch.tensor([0]), ctx=context(bounds=None), **options)
    assert torch.allclose(moved, inputs - expected, atol=1e-6) and taken.tolist() == [3]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bounds=st.sampled_from([(0.0, 1.0), (-1.0, 2.0), (0.0, 255.0)]),
    epsilon=st.floats(0.01, 0.6),
    delta=st.sampled_from([0.001, 0.1, 0.9]),
    steps=st.integers(1, 4),
    length=st.sampled_from([None, 0.3]),
    group=st.integers(1, 8),
)
def test_queries_keep_the_bounds_and_results_the_ball(seed, bounds, epsilon, delta, steps, length, group):
    low, high = bounds
    span = high - low
    draw = torch.Generator().manual_seed(seed)
    inputs = (low + span * (2 * torch.rand(3, 1, 2, 3, generator=draw) - 0.5)).clamp(low, high)
    first, second = torch.randn(6, 8, generator=draw) / span, torch.randn(8, 3, generator=draw)
    watched = Watched(lambda x: (x.flatten(1) @ first).tanh() @ second)
    labels = watched(inputs).argmax(1)
    options = {"steps": steps, "group": group, "delta": delta * span, "step_size": length and length * span}
    moved, _, _ = attack(watched, inputs, labels, ctx=context(seed, bounds), epsilons=[epsilon * span], **options)
    for seen in (watched.inputs, moved):
        assert seen.min() >= low and seen.max() <= high
    assert (moved - inputs).abs().max() <= epsilon * span + 1e-6 * span
    if steps % 2:  # two steps may lead there and back
        assert (moved != inputs).flatten(1).any(1).all()


@pytest.mark.parametrize(("name", "group", "epsilon"), [("mlp", 1, 0.1), ("lenet", 8, 0.2)])
def test_batch_size_and_order_change_not_a_byte(name, group, epsilon, request, digit_images):
    network = request.getfixturevalue(name)
    images, labels = (part[:12] for part in digit_images)
    options = {"epsilons": [epsilon], "steps": 3, "group": group}
    whole = attack(network, images, labels, **options)
    assert 0 < right(network, whole[0], labels) < 12 and len(set(whole[1].tolist())) > 1
    for size in (1, 5):
        for one, other in zip(whole, attack(network, images, labels, size, **options), strict=True):
            assert torch.equal(one, other)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    shuffled = attack(network, images[order], labels[order], 5, context(positions=order), **options)
    for one, other in zip(whole, shuffled, strict=True):
        assert torch.equal(one[order], other)
    other = attack(network, images, labels, ctx=context(1), **options)[0]
    assert torch.equal(other, whole[0]) == (group == 1)


@pytest.mark.parametrize("extra", [{}, EXACT])
def test_misclassified_images_come_back_as_they_are(extra, mlp, digit_images):
    images, labels = digit_images[0][:10], digit_images[1][:10].clone()
    labels[::2] = (mlp(images).argmax(1)[::2] + 1) % 10
    wrong = mlp(images).argmax(1) != labels
    moved, taken, queries = attack(mlp, images, labels, epsilons=[0.1], group=100, **extra)
    assert torch.equal(moved[wrong], images[wrong]) and (taken[wrong] == 0).all() and (queries[wrong] == 1).all()
    assert ((moved - images)[~wrong].flatten(1).abs().amax(1) > 0.09).all() and 5 <= wrong.sum() < 10
    moved, _, queries = attack(mlp, images[wrong], labels[wrong], epsilons=[0.1], **extra)
    assert torch.equal(moved, images[wrong]) and queries.max() == 1


def test_stop_keeps_the_first_misclassified_point(mlp, digit_images):
    images, labels = (part[:60] for part in digit_images)
    options = {"epsilons": [0.2], "steps": 4, "group": 50}
    stopped, taken, _ = attack(mlp, images, labels, **options)
    through, all_taken, _ = attack(mlp, images, labels, **options, stop=False)
    early = (taken > 0) & (taken < 4)
    assert early.sum() > 3 and (mlp(stopped).argmax(1) != labels)[early].all() and (all_taken[early] == 4).all()
    sizes = (stopped - images).flatten(1).abs().amax(1)
    assert torch.allclose(sizes[early], 0.05 * taken[early].float(), atol=1e-6)
    assert torch.equal(stopped[taken == 4], through[taken == 4]) and not torch.equal(stopped, through)


def test_zero_gradients_leave_images_where_they_are(affine):
    network = affine(torch.zeros(3, 6), torch.tensor([3.0, 1.0, 2.0]))
    inputs, labels = torch.rand(4, 1, 2, 3), torch.zeros(4, dtype=torch.int64)
    for extra in ({}, {"group": 4}, EXACT):
        moved, taken, _ = attack(network, inputs, labels, epsilons=[0.5], steps=2, **extra)
        assert torch.equal(moved, inputs) and (taken == 2).all()


@pytest.mark.parametrize("extra", [{"group": 60}, EXACT])
def test_network_and_images_are_left_alone(extra, lenet, digit_images, snapshot, unchanged):
    network = torch.nn.Sequential(lenet, torch.nn.BatchNorm1d(10)).eval()
    images, labels = (part[:8] for part in digit_images)
    copy, before = images.clone(), snapshot(network)
    moved, _, _ = attack(network, images, labels, epsilons=[0.1], steps=2, **extra)
    assert torch.equal(images, copy) and unchanged(before, network) and not moved.requires_grad


@pytest.mark.parametrize(
    "values",
    [
        {"epsilons": []},
        {"epsilons": [-0.1]},
        {"epsilons": [0.2, 0.1]},
        {"delta": 0},
        {"group": 0},
        {"gradient": "true"},
    ],
)
def test_parameters_out_of_range_are_refused(values):
    with pytest.raises(RedoubtError):
        registry.parameters("attacks", "finite-difference", values)


def test_parameters_are_read_without_torch():
    code = "import sys, redoubt.attacks.finite_difference as m; m.Parameters(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("every", [2, 100])
def test_images_that_stay_in_the_batch_once_fooled_change_nothing(every, mlp, digit_images, monkeypatch):
    # As on a GPU, where finished images leave now and then.
    images, labels = (part[:30] for part in digit_images)
    options = {"epsilons": [0.2], "steps": 5, "group": 50}
    expected = attack(mlp, images, labels, **options)
    assert len(set(expected[1].tolist())) > 3
    monkeypatch.setattr(interface, "thin_now", lambda step, _: step % every == every - 1)
    for one, other in zip(expected, attack(mlp, images, labels, **options), strict=True):
        assert torch.equal(one, other)
