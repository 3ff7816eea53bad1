"""Nearest neighbours by stripes against brute force in double precision: order, exclusions, memory.

Searches through an index have their tests in test_boxes.py and test_scan.py.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt.errors import RedoubtError
from redoubt.networks import _nearest as module
from redoubt.networks._nearest import duplicates


@pytest.fixture(autouse=True)
def no_index(monkeypatch):
    monkeypatch.setattr(module, "index_of", lambda _: None)


def nearest(*arguments):
    return module.nearest(*arguments)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def oracle(queries, candidates, own=None):
    """All inner products in double precision, minus infinity where a query may not have a candidate."""
    similarity = queries.double() @ candidates.double().T
    if own is not None:
        pairs = zip(itertools.pairwise(own[0]), itertools.pairwise(own[1]), strict=True)
        for (a, b), (first, last) in pairs:
            similarity[a:b, first:last] = -math.inf
    return similarity


def assert_nearest(found, similarity, count):
    """The found similarities are the `count` largest, in order, and no candidate is found twice."""
    assert found.shape == (len(similarity), count)
    assert all(len(set(row)) == count for row in found.tolist())
    expected = similarity.topk(count, 1).values
    assert torch.allclose(similarity.gather(1, found), expected, rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 40),
    candidates=st.integers(1, 3000),
    count=st.integers(1, 12),
    channels=st.integers(1, 6),
    stripe=st.sampled_from([1, 5000, 1 << 20]),
)
def test_agrees_with_brute_force(seed, queries, candidates, count, channels, stripe):
    draw = generator(seed)
    left, right = (torch.randn(size, channels, generator=draw) for size in (queries, candidates))
    count = min(count, candidates)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.STRIPE, "cpu", stripe)
        found = nearest(left, right, count)
    assert_nearest(found, oracle(left, right), count)


@pytest.mark.parametrize(("candidates", "group"), [(959, 1), (960, 32), (5000, 32)])
def test_with_and_without_maxima(candidates, group):
    left, right = torch.randn(70, 8, generator=generator(0)), torch.randn(candidates, 8, generator=generator(1))
    search = module._Search(right, 10)
    assert search.group == group
    assert_nearest(nearest(left, right, 10), oracle(left, right), 10)


def test_neighbours_in_one_group_are_all_found():
    # The best candidates of a query lie in one group, in neighbouring ones, or far apart.
    right = torch.randn(4096, 4, generator=generator(2)) * 0.01
    for apart in (1, 32, 256, 400):
        places = torch.arange(10) * apart
        boosted = right.clone()
        boosted[places] += torch.ones(4)
        found = nearest(torch.ones(1, 4), boosted, 10)
        assert set(found[0].tolist()) == set(places.tolist())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(2, 5), size=st.integers(1, 400), count=st.integers(1, 6))
def test_own_image_is_left_out(seed, images, size, count):
    rows = torch.nn.functional.normalize(torch.randn(images * size, 3, generator=generator(seed)), dim=1)
    bounds = list(range(0, images * size + 1, size))
    count = min(count, (images - 1) * size)
    found = nearest(rows, rows, count, (bounds, bounds))
    image = torch.arange(images).repeat_interleave(size)
    assert (image[found] != image[:, None]).all()
    assert_nearest(found, oracle(rows, rows, (bounds, bounds)), count)


def test_images_of_different_sizes():
    left, right = torch.randn(9, 3, generator=generator(3)), torch.randn(12, 3, generator=generator(4))
    own = ([0, 2, 2, 9], [0, 5, 7, 12])
    assert_nearest(nearest(left, right, 4, own), oracle(left, right, own), 4)


@pytest.mark.parametrize(("candidates", "own", "count"), [(5, None, 6), (5, None, 0), (6, ([0, 3, 6], [0, 3, 6]), 4)])
def test_more_neighbours_than_candidates_are_refused(candidates, own, count):
    rows = torch.randn(candidates, 2)
    with pytest.raises(RedoubtError, match="candidates; use more peers"):
        nearest(rows, rows, count, own)


def test_no_query_has_no_neighbours():
    assert nearest(torch.empty(0, 3), torch.randn(5, 3), 2).shape == (0, 2)


def test_similarities_are_never_held_at_once(monkeypatch):
    largest = []
    original = torch.mm

    def spy(left, right, out):
        largest.append(out.numel())
        return original(left, right, out=out)

    monkeypatch.setattr(module.torch, "mm", spy)
    rows = torch.randn(4000, 4, generator=generator(5))
    nearest(rows, rows, 10)
    assert max(largest) <= module.STRIPE["cpu"] < 4000 * 4000


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 200), kinds=st.integers(1, 8))
def test_duplicates_are_runs_of_equal_rows(seed, size, kinds):
    draw = generator(seed)
    values = torch.randn(kinds, 3, generator=draw)
    kind = torch.randint(kinds, (size,), generator=draw)
    order, begins = duplicates(values[kind])
    assert sorted(order.tolist()) == list(range(size))
    assert int(begins.sum()) == len(kind.unique()) and begins[0]
    runs = begins.cumsum(0)
    for run in runs.unique():
        rows = order[runs == run]
        assert len(kind[rows].unique()) == 1 and (rows.diff() > 0).all()


@pytest.mark.parametrize("candidates", [305, 601, 5001])
def test_padding_is_nobodys_neighbour(candidates):
    # All similarities are negative, so that columns of zeros would be the nearest.
    left, right = torch.ones(3, 2), -torch.rand(candidates, 2, generator=generator(6)) - 0.1
    assert_nearest(nearest(left, right, 10), oracle(left, right), 10)
