"""The search on a GPU, as far as it can be tested without Triton: when it is chosen, and what its kernel is given.

The kernel itself has its tests in tests/gpu, see `make test-triton`. Here a plain function takes its place, that reads
and writes the same arrays.
"""

import itertools
import math
import sys
import types

import pytest
import torch
from hard_rows import cuts, generator, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt.networks import _nearest as stripes
from redoubt.networks import _streaming as module

TILE = module.Tile(16, 16)


class PlainKernel:
    """What the kernel does, from the arrays that it is given, for a whole grid."""

    def __init__(self):
        self.grids = []

    def __getitem__(self, grid):
        def search(queries, candidates, barred, found, values, total_queries, total_candidates, share, **fixed):
            self.grids.append(grid)
            assert queries.is_contiguous() and candidates.is_contiguous() and barred.is_contiguous()
            assert barred.dtype == found.dtype == torch.int32 and fixed["FEATURES"] % fixed["CHUNK"] == 0
            assert queries.shape == (total_queries, fixed["FEATURES"])
            assert candidates.shape == (total_candidates, fixed["FEATURES"])
            assert fixed["COUNT"] <= fixed["SLOTS"] and fixed["SLOTS"].bit_count() == 1
            assert grid[0] * fixed["ROWS"] >= total_queries and grid[1] * share >= total_candidates
            products = queries @ candidates.T
            place = torch.arange(total_candidates)
            products[(place >= barred[:, :1]) & (place < barred[:, 1:])] = -math.inf
            for part in range(grid[1]):
                own = products[:, part * share : (part + 1) * share]
                kept = min(fixed["COUNT"], own.shape[1])
                best = own.topk(kept, 1)
                found[:, part] = 0
                values[:, part] = -math.inf
                found[:, part, :kept] = best.indices.int() + part * share
                values[:, part, :kept] = best.values

        return search


@pytest.fixture
def kernel(monkeypatch):
    plain = PlainKernel()
    monkeypatch.setattr(module, "kernels", types.SimpleNamespace(search=plain))
    return plain


@settings(max_examples=60, deadline=None)
@given(
    features=st.sampled_from([1, 3, 16, 17, 20, 50, 128]),
    candidates=st.integers(1, 200),
    queries=st.integers(0, 40),
    count=st.integers(1, 24),
    images=st.integers(1, 4),
    shares=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_what_the_kernel_is_given(features, candidates, queries, count, images, shares, seed):
    left, right = rows_of("random", queries, features, seed), rows_of("random", candidates, features, seed + 1)
    own = tuple(cuts(total, images, generator(seed)) for total in (queries, candidates)) if images > 1 else None
    exact = left.double() @ right.double().T
    for (a, b), (c, d) in zip(*map(itertools.pairwise, own or ((), ())), strict=True):
        exact[a:b, c:d] = -math.inf
    count = min([count, candidates, *(exact > -math.inf).sum(1).tolist()])
    if count == 0:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "kernels", types.SimpleNamespace(search=PlainKernel()))
        found, values = module.nearest(left.T.contiguous().T, right, count, own, shares, TILE)
    assert found.dtype == torch.int64 and found.shape == values.shape == (queries, count)
    assert all(len(set(row)) == count for row in found.tolist())
    slack = 2 * module.tolerance(features)
    assert torch.allclose(exact.gather(1, found), exact.topk(count, 1).values, rtol=0, atol=slack)
    assert torch.allclose(values.double(), exact.topk(count, 1).values, rtol=0, atol=slack)


def test_few_queries_share_the_processors(monkeypatch, kernel):
    found = types.SimpleNamespace(multi_processor_count=100)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    rows = rows_of("random", 64 * 64, 4, 0)
    for queries, shares in ((64, 8), (64 * 32, 200 // 32), (64 * 64, 200 // 64)):
        module.nearest(rows[:queries], rows, 3)
        assert kernel.grids[-1] == (queries // module.Tile().rows, shares)


def test_what_is_barred_is_sent_once(kernel):
    rows = rows_of("random", 60, 4, 0)
    bounds = range(0, 61, 20)
    module._barred.cache_clear()
    for _ in range(3):
        module.nearest(rows, rows, 3, (bounds, bounds), 1)
    assert module._barred.cache_info()[:2] == (2, 1)


@pytest.mark.parametrize("features", [1, 20, 128])
def test_the_tolerance_is_some_roundings_for_each_term(features):
    assert 6 * features * 2**-24 < module.tolerance(features) <= (6 * features + 110) * 2**-24


def test_what_the_kernel_is_written_for():
    assert module.fits(57600, 28800, 20, 10) and module.fits(1, 1, 1, 1) and module.fits(10, 10, 128, 64)
    assert not module.fits(10, 10, 129, 5) and not module.fits(10, 10, 20, 65)
    assert not module.fits(10, 2**31 // 32, 20, 5) and not module.fits(2**31 // 128, 10, 128, 5)


@pytest.fixture
def known():
    module.available.cache_clear()
    yield
    module.available.cache_clear()


def test_never_on_a_cpu():
    rows = rows_of("random", 60, 5, 0)
    assert not module.takes(rows, rows, 3)


class OnGpu:
    """A tensor as far as its device, its type and its shape go."""

    def __init__(self, rows, dtype=torch.float32):
        self.device, self.dtype, self.shape = torch.device("cuda", 0), dtype, torch.Size((rows, 20))


def test_on_a_gpu_where_it_works(monkeypatch):
    for works in (True, False):
        monkeypatch.setattr(module, "available", lambda _, works=works: works)
        assert module.takes(OnGpu(50), OnGpu(60), 5) == works
        assert not module.takes(OnGpu(50), OnGpu(60, torch.float64), 5) and not module.takes(OnGpu(50), OnGpu(60), 65)


def test_without_triton_it_is_not_available(monkeypatch, known):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert not module.available(torch.device("cpu"))


def test_where_it_fails_the_rest_goes_on_and_says_so(monkeypatch, known):
    def fail(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setitem(sys.modules, "triton", types.ModuleType("triton"))
    monkeypatch.setattr(module, "nearest", fail)
    with pytest.warns(UserWarning, match="without Triton.*no compiler"):
        assert not module.available(torch.device("cpu"))


def in_tf32(rows):
    """Return rows with the 11 bits of TF32, cut off."""
    return (rows.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("wrong", [None, torch.zeros_like, in_tf32])
def test_it_is_tried_once(wrong, monkeypatch, known, kernel):
    monkeypatch.setitem(sys.modules, "triton", types.ModuleType("triton"))
    monkeypatch.setattr(module, "_shares", lambda *_: 1)
    if wrong:
        monkeypatch.setattr(module, "_rows", wrong)
    assert module.available(torch.device("cpu")) == (wrong is None)
    module.available(torch.device("cpu"))
    assert len(kernel.grids) == 1


def test_a_search_goes_through_it(monkeypatch, kernel):
    rows = rows_of("random", 60, 5, 1)
    bounds = range(0, 61, 20)
    expected = stripes.nearest(rows, rows, 5, (bounds, bounds))
    monkeypatch.setattr(module, "takes", lambda *_: True)
    monkeypatch.setattr(module, "_shares", lambda *_: 1)
    assert torch.equal(stripes.nearest(rows, rows, 5, (bounds, bounds)), expected) and len(kernel.grids) == 1
