"""All products in passes against brute force in double precision, and which kind of index candidates have."""

import math

import pytest
import torch
from hard_rows import KINDS, assert_nearest, rows_of, searched
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt.networks import _boxes as boxes
from redoubt.networks import _nearest as nearest
from redoubt.networks._scan import Scan, takes

pytest.importorskip("numba")


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    features=st.sampled_from([1, 2, 3, 4, 7, 10, 20, 32, 64, 128, 256]),
    candidates=st.integers(1, 900),
    queries=st.integers(1, 200),
    count=st.integers(1, 24),
    images=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_brute_force(kind, features, candidates, queries, count, images, seed):
    left, right, own = searched(kind, candidates, queries, features, images, seed)
    assert_nearest(Scan(right), left, right, own, count, (features + 1) * boxes.ROUNDING)


@pytest.mark.parametrize("candidates", [1, 2, 63, 64, 65, 700])
def test_as_many_neighbours_as_candidates(candidates):
    rows = rows_of("random", candidates, 6, 0)
    found, _ = Scan(rows).nearest(rows, candidates)
    assert (found.sort(1).values == torch.arange(candidates)).all()


def test_of_equal_candidates_the_first_are_found():
    rows = rows_of("few", 901, 9, 1)
    found, _ = Scan(rows).nearest(rows[:150], 8)
    for row, links in enumerate(found.tolist()):
        assert links == (rows == rows[row]).all(1).nonzero()[:8, 0].tolist()


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_neither_threads_nor_other_queries_change_anything(layout):
    rows = rows_of("close", 3001, 20, 3)
    rows = rows if layout == "rows" else rows.T.contiguous().T
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(Scan(rows).nearest(rows[:777], 10))
    index = Scan(rows)
    parts = [index.nearest(part, 10) for part in rows[:777].split(37)]
    results.append(tuple(torch.cat(part) for part in zip(*parts, strict=True)))
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize(("candidates", "features"), [(10000, 20), (4001, 50), (4000, 64)])
def test_it_takes_hardly_more_than_the_candidates(candidates, features):
    """And whole groups of them, since the loops read whole groups."""
    from redoubt.networks._scan_kernels import ROWS

    size = len(Scan(rows_of("random", candidates, features, 5)).rows)
    assert candidates * features <= size <= 1.1 * candidates * features and size % (ROWS * features) == 0


# -- which kind of index candidates have -------------------------------------------------------------------------------


def along(axes, candidates, features, seed=0):
    """Rows of length one that spread along some axes, in a random frame, and hardly along the others."""
    draw = torch.Generator().manual_seed(seed)
    spread = torch.full((features,), 0.02)
    spread[:axes] = 1
    frame = torch.linalg.qr(torch.randn(features, features, generator=draw))[0]
    return torch.nn.functional.normalize((torch.randn(candidates, features, generator=draw) * spread) @ frame, dim=1)


@pytest.mark.parametrize(
    ("axes", "candidates", "features", "kind"),
    [
        (6, 4096, 32, boxes.Index),
        (6, 4095, 32, Scan),
        (6, 4096, 64, boxes.Index),
        (6, 4096, 65, Scan),
        (20, 4096, 32, Scan),
        (8, 20000, 8, boxes.Index),
        (20, 512, 256, Scan),
        (20, 511, 32, type(None)),
        (20, 512, 257, type(None)),
    ],
)
def test_what_index_candidates_have(axes, candidates, features, kind):
    assert type(nearest.index_of(along(axes, candidates, features))) is kind


def test_what_has_no_index():
    def made(rows):
        return nearest.index_of(rows) is not None

    rows = rows_of("random", 600, 8, 0)
    assert made(rows) and made(rows.T.contiguous().T)
    assert not made(rows.double()) and not made(0 * rows) and not made(1e9 * rows)
    for bad in (math.nan, math.inf, 1e9):
        harmed = rows.clone()
        harmed[7, 2] = bad
        assert not made(harmed)
        assert takes(rows) and not takes(harmed) and not takes(rows.double())


@pytest.mark.parametrize("axes", [6, 20])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["queries", "candidates"])
def test_rows_that_are_not_finite_are_left_to_stripes(bad, side, axes):
    queries, candidates = along(axes, 40, 24, 1), along(axes, 5000, 24, 2)
    (queries if side == "queries" else candidates)[7, 2] = bad
    found = nearest.nearest(queries, candidates, 4)
    assert torch.equal(found, nearest.brute_force(queries, candidates, 4, ((0, 40), (0, 0))))


@pytest.mark.parametrize("axes", [6, 20])
def test_a_kept_index_is_used(axes):
    queries, candidates = along(axes, 40, 24, 1), along(axes, 5000, 24, 2)
    index = nearest.index_of(candidates)
    other = nearest.nearest(queries, 0 * candidates, 4, index=index)
    assert torch.equal(other, nearest.nearest(queries, candidates, 4))
