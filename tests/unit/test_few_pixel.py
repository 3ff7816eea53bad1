"""Few-pixel attack: exact enumeration on tiny images, the rules of differential evolution, budgets and draws."""

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
from redoubt.attacks import _querying as querying
from redoubt.attacks import few_pixel, interface
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError


class Watched:
    """A network that remembers every image it was asked about."""

    def __init__(self, network):
        self.network, self.seen = network, []

    def __call__(self, inputs):
        self.seen.append(inputs.clone())
        return self.network(inputs)

    @property
    def images(self):
        return torch.cat(self.seen)


def context(seed=0, bounds=(0.0, 1.0), positions=None):
    return Context(torch.Generator().manual_seed(seed), bounds=bounds, positions=positions)


def attack(network, inputs, labels, size=64, ctx=None, **parameters):
    """Return adversarial inputs (N, ...), iterations (N,) and queries (N,) for one number of pixels."""
    batches = Batches(inputs, labels, size)
    parts = list(few_pixel.run(network, batches, few_pixel.Parameters(**parameters), ctx or context()))
    facts = [torch.cat([torch.from_numpy(part.facts[name]) for part in parts]) for name in ("iterations", "queries")]
    return torch.cat([part.inputs for part in parts]), *facts


def changed(moved, inputs):
    """Return how many positions of each image differ in any channel."""
    return (moved != inputs).any(1).flatten(1).sum(1)


@pytest.fixture
def tiny(affine):
    """Function (classes, images, seed) to an affine network on 4x4 grey images, images and their predicted labels."""

    def make(classes, count, seed=0):
        draw = torch.Generator().manual_seed(seed)
        network = affine(torch.randn(classes, 16, generator=draw), 0.2 * torch.randn(classes, generator=draw))
        inputs = torch.rand(count, 1, 4, 4, generator=draw)
        return network, inputs, network(inputs).argmax(1)

    return make


@pytest.fixture
def near(digit_images):
    """Function (network, count) to the right digits that lie nearest to another class, and their labels."""

    def pick(network, count):
        images, labels = digit_images
        heights = losses.margin(network(images), labels)
        rows = heights.masked_fill(heights > 0, -math.inf).argsort(descending=True)[:count].sort()[0]
        return images[rows], labels[rows]

    return pick


PORTS = {"strategy": "best1-dither", "start": "latin-hypercube"}


@pytest.mark.parametrize("kind", [{}, PORTS])
def test_one_pixel_succeeds_exactly_where_enumeration_does(kind, tiny):
    network, inputs, labels = tiny(3, 60)
    possible = []
    for image, label in zip(inputs, labels, strict=True):
        changes = image.repeat(32, 1, 1, 1)
        for row, (place, value) in enumerate(itertools.product(range(16), (0.0, 1.0))):
            changes[row, 0, place // 4, place % 4] = value
        possible.append(bool((network(changes).argmax(1) != label).any()))
    moved, _, _ = attack(network, inputs, labels, population=150, generations=40, **kind)
    fooled = network(moved).argmax(1) != labels
    assert fooled.tolist() == possible and 15 <= sum(possible) <= 50


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_of_two_classes_the_best_pixels_add_up(pixels, tiny):
    network, inputs, _ = tiny(2, 40, seed=4)
    labels = network(inputs).argmax(1)
    weight = network[1].weight.detach()
    slope = (weight[1 - labels] - weight[labels])[:, None, :].view(40, 1, 16)
    still = inputs.view(40, 1, 16)
    gains = torch.maximum(slope * (1 - still), -slope * still)[:, 0].sort(1, descending=True)[0]
    start = losses.margin(network(inputs), labels)
    best = start + gains[:, :pixels].sum(1)
    moved, _, _ = attack(network, inputs, labels, pixels=[pixels], population=150, generations=60)
    reached = losses.margin(network(moved), labels)
    fooled = network(moved).argmax(1) != labels
    assert fooled.tolist() == (best > 0).tolist() and 5 < fooled.sum() < 40
    assert (reached <= best + 1e-5).all()
    assert (best - reached)[~fooled].max() < 0.02 * gains[:, :pixels].sum(1).mean()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    pixels=st.integers(1, 4),
    bounds=st.sampled_from([(0.0, 1.0), (-1.5, 2.0), (0.0, 255.0)]),
    kind=st.sampled_from([{"weight": 0.5}, {"weight": 2.0}, PORTS]),
)
def test_no_query_changes_more_than_its_pixels_or_leaves_the_bounds(
    seed, channels, height, width, pixels, bounds, kind
):
    draw = torch.Generator().manual_seed(seed)
    low, high = bounds
    inputs = low + (high - low) * torch.rand(1, channels, height, width, generator=draw)
    matrix = torch.randn(inputs.numel(), 2, generator=draw) / (high - low)
    watched = Watched(lambda x: x.flatten(1) @ matrix)
    labels = watched(inputs).argmax(1)
    parameters = {"pixels": [pixels], "population": 6, "generations": 4, **kind}
    moved, _, _ = attack(watched, inputs, labels, ctx=context(seed, bounds), **parameters)
    for images in (watched.images, moved):
        assert images.min() >= low and images.max() <= high
        assert int(changed(images, inputs).max()) <= pixels
    assert watched.images.shape[1:] == inputs.shape[1:]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_and_channel_is_tried(channels):
    inputs = torch.full((1, channels, 3, 5), 0.3)
    watched = Watched(lambda x: torch.zeros(len(x), 2) + torch.tensor([1.0, 0.0]))
    attack(watched, inputs, torch.tensor([0]), population=400, generations=0)
    moved = watched.images[1:] != inputs
    assert (moved.any(0)).all() and (changed(watched.images[1:], inputs) == 1).float().mean() > 0.99
    share = moved.any(1).float().mean(0)
    assert (share - 1 / 15).abs().max() < 4.5 * math.sqrt(1 / 15 / 400)


def test_first_values_are_normal_around_mid_grey_and_clipped():
    draws = [torch.Generator().manual_seed(seed) for seed in range(3)]
    points = few_pixel.first(draws, 4000, 2, (3, 5, 7), (-1.0, 3.0))
    assert points.shape == (3, 4000, 2, 5) and not torch.equal(points[0], points[1])
    values = points[..., 2:]
    for clipped in (values == -1.0, values == 3.0):
        assert abs(clipped.float().mean() - 0.1587) < 0.005
    inside = values[(values > -1) & (values < 3)]
    assert abs(inside.mean() - 1.0) < 0.02 and abs(inside.std() - 2 * 0.5396) < 0.02  # a normal cut at one deviation
    for axis, size in enumerate((5, 7)):
        counts = points[..., axis].long().flatten().bincount()
        assert len(counts) == size and (counts / counts.sum() - 1 / size).abs().max() < 0.01


@pytest.mark.parametrize("population", [3, 4, 5, 400])
def test_triples_are_three_different_candidates(population):
    draws = [torch.Generator().manual_seed(seed) for seed in range(40)]
    chosen = torch.cat([few_pixel.triples(draws, population) for _ in range(20)])
    one, two, three = chosen.unbind(1)
    assert chosen.shape == (800, 3, population) and chosen.min() == 0 and chosen.max() == population - 1
    assert (one != two).all() and (one != three).all() and (two != three).all()
    if population <= 5:
        counts = ((one * population + two) * population + three).flatten().bincount()
        counts = counts[counts > 0].double()
        kinds = math.perm(population, 3)
        assert len(counts) == kinds
        expected = counts.sum() / kinds
        assert ((counts - expected) ** 2 / expected).sum() < kinds + 5 * math.sqrt(2 * kinds)


def test_children_are_mutants_inside_image_and_bounds():
    def inside(value, size):
        while not 0 <= value <= size:
            value = -value if value < 0 else 2 * size - value
        return value

    shape, bounds, count = (2, 5, 3), (-1.0, 2.0), 30
    for weight in (0.5, 2.0):
        draws = [torch.Generator().manual_seed(seed) for seed in range(4)]
        points = few_pixel.first(draws, count, 2, shape, bounds)
        chosen, before = few_pixel.triples(draws, count), points.clone()
        children = few_pixel.breed(points, chosen, weight, shape, bounds)
        outside = 0
        for image, child, pixel in itertools.product(range(4), range(count), range(2)):
            one, two, three = (points[image, some, pixel].tolist() for some in chosen[image, :, child])
            mutant = [a + weight * (b - c) for a, b, c in zip(one, two, three, strict=True)]
            expected = [inside(mutant[0], 5), inside(mutant[1], 3), *(min(max(v, -1.0), 2.0) for v in mutant[2:])]
            assert children[image, child, pixel].tolist() == pytest.approx(expected, abs=1e-5)
            outside += expected[0] != mutant[0]
        assert outside > 20 and torch.equal(points, before)


@pytest.mark.parametrize("population", [9, 100])
def test_a_latin_hypercube_has_one_candidate_in_every_part_of_every_range(population):
    draws = [torch.Generator().manual_seed(seed) for seed in range(3)]
    points = few_pixel.latin_hypercube(draws, population, 2, (3, 5, 7), (-1.0, 3.0))
    assert points.shape == (3, population, 2, 5)
    lows, sizes = torch.tensor([0.0, 0.0, -1.0, -1.0, -1.0]), torch.tensor([5.0, 7.0, 4.0, 4.0, 4.0])
    parts = ((points - lows) / sizes * population).floor().long().clamp(max=population - 1)
    assert torch.equal(parts.sort(1).values, torch.arange(population)[None, :, None, None].expand_as(parts))
    columns = parts.flatten(2).permute(0, 2, 1).reshape(-1, population)
    assert len(columns.unique(dim=0)) == len(columns)  # each element of each image is ordered by its own draw


def test_children_of_the_best_by_hand():
    shape, bounds, count = (2, 5, 3), (-1.0, 2.0), 9
    points = few_pixel.first([torch.Generator().manual_seed(seed) for seed in range(60)], count, 2, shape, bounds)
    values, before = torch.rand(60, count, generator=torch.Generator().manual_seed(0)), points.clone()
    low, high = torch.tensor([0.0, 0.0, -1.0, -1.0]), torch.tensor([5.0, 3.0, 2.0, 2.0])
    children = few_pixel.breed_from_best(
        points, values, [torch.Generator().manual_seed(s) for s in range(60)], shape, bounds
    )
    outside, factors = 0, []
    for image in range(60):
        draw, own = torch.Generator().manual_seed(image), points[image]
        pairs, factor = torch.rand(2, count, generator=draw).double(), 0.5 + 0.5 * torch.rand(1, generator=draw).item()
        again = low + (high - low) * torch.rand(count, 2, 4, generator=draw)
        factors.append(factor)
        for child in range(count):
            others = [place % count for place in range(child + 1, child + count)]  # all but the parent
            one = others.pop(int(pairs[0, child] * (count - 1)))
            two = others[int(pairs[1, child] * (count - 2))]
            mutant = own[values[image].argmax()] + factor * (own[one] - own[two])
            wild = (mutant < low) | (mutant > high)
            assert torch.allclose(children[image, child], torch.where(wild, again[child], mutant), atol=1e-5)
            outside += int(wild.sum())
    assert 500 < outside < 4000 and torch.equal(points, before)
    assert min(factors) < 0.53 and max(factors) > 0.97


def test_the_strategies_of_paper_and_ports_are_different_searches(lenet, near):
    images, labels = near(lenet, 20)
    options = {"pixels": [2], "population": 20, "generations": 3}
    found = [
        attack(lenet, images, labels, strategy=strategy, start=start, **options)[0]
        for strategy in ("rand1", "best1-dither")
        for start in ("normal", "latin-hypercube")
    ]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(found, 2))


def test_pixels_are_written_where_they_say_and_the_last_wins():
    images = torch.zeros(2, 2, 3, 4)
    points = torch.tensor(
        [[[1.99, 0.2, 0.5, 0.6], [1.0, 0.9, 0.7, 0.8]], [[3.0, 4.0, 0.1, 0.2], [0.0, 3.5, 0.3, 0.4]]],
    )
    few_pixel.write(images, points)
    expected = torch.zeros(2, 2, 3, 4)
    expected[0, :, 1, 0] = torch.tensor([0.7, 0.8])
    expected[1, :, 2, 3] = torch.tensor([0.1, 0.2])
    expected[1, :, 0, 3] = torch.tensor([0.3, 0.4])
    assert torch.equal(images, expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 60), st.booleans())
def test_portions_cover_all_queries_once(images, each, limit, apart):
    found = list(querying.portions(images, each, limit, apart))
    assert [row for low, high in found for row in range(low, high)] == list(range(images * each))
    assert all(high - low <= limit for low, high in found)
    assert not apart or all(low // each == (high - 1) // each for low, high in found)
    if not apart:
        assert len(found) == math.ceil(images * each / limit)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("room", [1, 5, 7, 1000])
def test_queries_in_portions_are_queries_at_once(room, apart, tiny, monkeypatch):
    network, inputs, _ = tiny(4, 6)
    labels = torch.arange(6) % 4
    monkeypatch.setitem(querying.VALUES, "cpu", 16 * room)
    if not apart:  # as on a GPU
        portions = querying.portions
        monkeypatch.setattr(querying, "portions", lambda *a: portions(*a[:3], False))
    draws = [torch.Generator().manual_seed(seed) for seed in range(6)]
    points = few_pixel.first(draws, 12, 2, (1, 4, 4), (0.0, 1.0))
    values, wrong = few_pixel.candidates(network, inputs, labels, points, "margin")
    copies = few_pixel.write(inputs.repeat_interleave(12, 0), points.flatten(0, 1))
    expected = losses.margin(network(copies), labels.repeat_interleave(12)).view(6, 12)
    assert torch.allclose(values, expected, atol=1e-6) and torch.equal(wrong, expected > 0)


def test_batch_size_and_order_change_not_a_byte(lenet, near):
    images, labels = near(lenet, 20)
    options = {"pixels": [1], "population": 20, "generations": 8}
    whole = attack(lenet, images, labels, **options)
    assert len(set(whole[1].tolist())) > 2 and 0 < (lenet(whole[0]).argmax(1) != labels).sum() < 20
    for size in (1, 7):
        for one, other in zip(whole, attack(lenet, images, labels, size=size, **options), strict=True):
            assert torch.equal(one, other)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(5))
    shuffled = attack(lenet, images[order], labels[order], size=6, ctx=context(positions=order), **options)
    for one, other in zip(whole, shuffled, strict=True):
        assert torch.equal(one[order], other)


def test_draws_follow_the_seed_the_image_and_the_pixel_count(tiny):
    network, inputs, labels = tiny(2, 1)
    inputs, labels = inputs.repeat(3, 1, 1, 1), labels.repeat(3)
    options = {"population": 5, "generations": 0}
    first, second = (attack(network, inputs, labels, **options)[0] for _ in range(2))
    assert torch.equal(first, second) and len(first.unique(dim=0)) == 3
    assert not torch.equal(first, attack(network, inputs, labels, ctx=context(1), **options)[0])
    hopeless = [Watched(lambda x: torch.tensor([1.0, 0.0]).repeat(len(x), 1)) for _ in range(2)]
    still = torch.full((9, 1, 4, 4), 0.3)
    for pixels, watched in enumerate(hopeless, 1):
        attack(watched, still, torch.zeros(9, dtype=torch.int64), pixels=[pixels], population=3, generations=0)
    one, two = ((watched.images[9:].view(9, 3, 16) != 0.3)[:, 0] for watched in hopeless)
    assert not (one & two).any(1).all()


@pytest.mark.parametrize("kind", [{}, PORTS])
def test_more_generations_pass_through_the_states_of_fewer(kind, lenet, near):
    images, labels = near(lenet, 40)
    options = {"pixels": [2], "population": 20, **kind}
    runs = [attack(lenet, images, labels, generations=n, **options) for n in (0, 1, 4, 12)]
    fooled = [lenet(moved).argmax(1) != labels for moved, _, _ in runs]
    first, *_, last = (losses.log_odds(lenet(moved), labels) for moved, _, _ in runs)
    assert (last > first)[~fooled[0]].float().mean() > 0.9
    for (one, early, _), (two, late, _), before, after in zip(runs, runs[1:], fooled, fooled[1:], strict=False):
        assert torch.equal(one[before], two[before]) and torch.equal(early[before], late[before])
        assert (late[after & ~before] > early[after & ~before]).all()
        heights = [losses.log_odds(lenet(moved), labels)[~before] for moved in (one, two)]
        assert (heights[1] >= heights[0] - 1e-5).all() and (heights[1] > heights[0]).any()
    counts = [int(some.sum()) for some in fooled]
    assert counts == sorted(counts) and counts[0] < counts[-1] < 40


def test_more_pixels_fool_more_images(mlp, near):
    images, labels = near(mlp, 40)
    counts = {}
    for part in few_pixel.run(
        mlp,
        Batches(images, labels, 40),
        few_pixel.Parameters(pixels=[1, 3, 8], population=30, generations=10),
        context(),
    ):
        counts[part.facts["pixels"]] = int((mlp(part.inputs).argmax(1) != labels).sum())
    assert 0 < counts[1] < counts[3] < counts[8]


@pytest.mark.parametrize("size", [1, 9, 40])
def test_queries_are_counted_exactly(size, lenet, near):
    images, labels = near(lenet, 40)
    labels[::5] = (labels[::5] + 1) % 10
    watched = Watched(lenet)
    _, iterations, queries = attack(watched, images, labels, size, pixels=[2], population=15, generations=6)
    right = lenet(images).argmax(1) == labels
    assert queries.sum() == len(watched.images)
    assert torch.equal(queries, 1 + 15 * right * (1 + iterations))
    assert len(set(iterations.tolist())) > 2 and iterations.max() == 6


def test_a_model_that_cannot_be_fooled_takes_the_whole_budget():
    inputs, labels = torch.rand(3, 1, 5, 5), torch.ones(3, dtype=torch.int64)
    moved, iterations, queries = attack(
        lambda x: 50 * torch.eye(3)[1].repeat(len(x), 1), inputs, labels, pixels=[2], population=7, generations=4
    )
    assert iterations.tolist() == [4] * 3 and queries.tolist() == [1 + 7 * 5] * 3
    assert torch.isfinite(moved).all() and changed(moved, inputs).max() <= 2


def test_misclassified_images_come_back_as_they_are(mlp, digit_images):
    images, labels = digit_images[0][:20], digit_images[1][:20].clone()
    labels[::2] = (mlp(images).argmax(1)[::2] + 1) % 10
    moved, iterations, queries = attack(mlp, images, labels, population=5, generations=1)
    wrong = mlp(images).argmax(1) != labels
    assert wrong.sum() >= 10 and torch.equal(moved[wrong], images[wrong]) and (changed(moved, images)[~wrong] > 0).all()
    assert (queries[wrong] == 1).all() and (iterations[wrong] == 0).all()
    assert (queries[~wrong] >= 6).all()
    moved, _, queries = attack(mlp, images[wrong], labels[wrong])
    assert torch.equal(moved, images[wrong]) and queries.max() == 1


def test_of_several_misclassified_the_one_with_the_highest_loss_is_returned(tiny):
    network, inputs, labels = tiny(6, 60, seed=8)
    several = 0
    for image, label in zip(inputs[:, None], labels[:, None], strict=True):
        watched = Watched(network)
        moved, iterations, _ = attack(watched, image, label, pixels=[2], population=30, generations=3)
        states = watched.images[1:].split(30)
        wrong = [network(state).argmax(1) != label for state in states]
        assert len(states) == iterations + 1 and not any(some.any() for some in wrong[:-1])
        values = [losses.log_odds(network(state), label.expand(30)) for state in states]
        if wrong[-1].any():
            best = values[-1].masked_fill(~wrong[-1], -math.inf).argmax()
            several += int(wrong[-1].sum() > 1)
            assert torch.equal(moved[0], states[-1][best])
        else:
            best = torch.cat(values).argmax()
            assert torch.equal(moved[0], watched.images[1:][best])
    assert several > 10


@pytest.mark.parametrize("window", [0.5, 0.05])
def test_a_misclassified_candidate_wins_over_one_with_a_higher_loss(window):
    # Outside of the window the label stays ahead of two others that together outweigh it.
    logits = torch.tensor([[1.0, 0.9, 0.9], [1.5, 1.6, -9.0], [5.0, 0.0, 0.0]])

    def network(inputs):
        value = inputs[:, 0, 0, 0]
        return logits[torch.where(value == 0.2, 2, ((value - 0.6).abs() < window / 2).long())]

    inputs, labels = torch.full((60, 1, 1, 1), 0.2), torch.zeros(60, dtype=torch.int64)
    moved, iterations, _ = attack(network, inputs, labels, population=5, generations=6)
    found = network(moved)[:, 1] == logits[1, 1]
    assert (iterations[~found] == 6).all()
    assert found[iterations < 6].all() and (found & (iterations > 0)).sum() > 3


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_candidates_are_ranked_by_the_loss_that_is_asked_for(loss):
    logits = torch.tensor([[2.0, 1.0, 0.9], [1.5, 1.1, -9.0], [1.5, 0.9, 0.9]])

    def network(inputs):  # three images alike except for the value of one pixel
        kind = (3 * inputs[:, 0, 0, 0]).long().clamp(max=2)
        return logits[kind]

    inputs, labels = torch.full((1, 1, 1, 1), 0.1), torch.tensor([0])
    moved, _, _ = attack(network, inputs, labels, population=50, generations=3, loss=loss)
    best = losses.LOSSES[loss](logits, torch.zeros(3, dtype=torch.int64)).argmax()
    assert best == (1 if loss == "margin" else 2)
    assert network(moved).tolist() == logits[best][None].tolist()


def test_sweep_runs_all_images_of_a_count_before_the_next(tiny):
    network, inputs, labels = tiny(3, 5)
    parameters = few_pixel.Parameters(pixels=[1, 3], population=4, generations=1)
    parts = list(few_pixel.run(network, Batches(inputs, labels, 2), parameters, context()))
    assert [(part.start, part.facts["pixels"]) for part in parts] == [(s, k) for k in (1, 3) for s in (0, 2, 4)]
    alone = attack(network, inputs, labels, pixels=[3], population=4, generations=1)[0]
    assert torch.equal(torch.cat([part.inputs for part in parts[3:]]), alone)


def test_network_and_images_are_left_alone(lenet, digit_images, snapshot, unchanged):
    network = torch.nn.Sequential(lenet, torch.nn.BatchNorm1d(10)).eval()
    images, labels = (part[:8] for part in digit_images)
    copy, before = images.clone(), snapshot(network)
    moved, _, _ = attack(network, images, labels, population=5, generations=2)
    assert torch.equal(images, copy) and unchanged(before, network) and not moved.requires_grad


def test_a_space_without_bounds_is_refused(tiny):
    with pytest.raises(RedoubtError, match="few-pixel: needs a space with bounds"):
        attack(*tiny(2, 2), ctx=context(bounds=None))


@pytest.mark.parametrize(
    "values", [{"pixels": []}, {"pixels": [0]}, {"pixels": [2, 1]}, {"pixels": [1, 1]}, {"population": 2}]
)
def test_parameters_out_of_range_are_refused(values):
    with pytest.raises(RedoubtError):
        registry.parameters("attacks", "few-pixel", values)


def test_defaults_are_the_papers():
    parameters = few_pixel.Parameters()
    assert (parameters.population, parameters.generations, parameters.weight) == (400, 75, 0.5)


def test_parameters_are_read_without_torch():
    code = "import sys, redoubt.attacks.few_pixel as m; m.Parameters(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("every", [3, 100])
def test_images_that_stay_in_the_batch_once_fooled_change_nothing(every, lenet, near, monkeypatch):
    # As on a GPU, where finished images leave now and then.
    images, labels = near(lenet, 20)
    options = {"pixels": [1], "population": 20, "generations": 8}
    expected = attack(lenet, images, labels, **options)
    monkeypatch.setattr(interface, "thin_now", lambda iteration, _: iteration % every == every - 1)
    for one, other in zip(expected, attack(lenet, images, labels, **options), strict=True):
        assert torch.equal(one, other)
