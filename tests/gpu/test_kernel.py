"""The Triton kernel of the search, in Triton's interpreter on a CPU, against brute force in double precision.

Run by `make test-triton`. Mutants of the kernel are tried here: elsewhere there is no Triton.
"""

import importlib.util
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hard_rows import KINDS, rows_of, searched
from hypothesis import given, settings
from hypothesis import strategies as st
from triton.runtime.errors import InterpreterError

from redoubt.networks import _nearest as stripes
from redoubt.networks import _streaming as module
from redoubt.networks import _triton as kernels

TILE = module.Tile(16, 16)
ROOT = Path(__file__).resolve().parents[2]


def similarities(left, right, own):
    """All inner products in double precision, minus infinity where a query may not have a candidate."""
    exact = left.double() @ right.double().T
    for (a, b), (c, d) in zip(*map(itertools.pairwise, own or ((), ())), strict=True):
        exact[a:b, c:d] = -math.inf
    return exact


def check(left, right, count, own, shares, tile=TILE):
    """What is found is within the tolerance of what is true, and nothing better was left out."""
    exact = similarities(left, right, own)
    found, values = module.nearest(left, right, count, own, shares, tile)
    assert all(len(set(row)) == count for row in found.tolist())
    longest = left.norm(dim=1, keepdim=True).double() * right.norm(dim=1).max()
    slack = (left.shape[1] + 1) * 2**-24 * longest  # the interpreter multiplies in float32
    reached = exact.gather(1, found)
    assert ((reached - values).abs() <= slack).all()
    assert ((reached - exact.topk(count, 1).values).abs() <= 2 * slack).all()
    assert (values.diff(dim=1) <= 0).all()


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    features=st.sampled_from([1, 3, 16, 17, 20, 32, 50, 64, 128]),
    candidates=st.integers(1, 90),
    queries=st.integers(1, 20),
    count=st.integers(1, 24),
    images=st.integers(1, 4),
    shares=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_brute_force(kind, features, candidates, queries, count, images, shares, seed):
    left, right, own = searched(kind, candidates, queries, features, images, seed)
    count = min(count, int((similarities(left, right, own) > -math.inf).sum(1).min()))
    if count:
        check(left, right, count, own, shares)


# Feature maps as behind the layers of PR-LeNet-5 (20 and 50 channels) and PR-ResNet-32 (32 and 64), made small; K with
# and without the further neighbours that dropped edges ask for.
@pytest.mark.parametrize("features", [3, 20, 32, 50, 64, 128])
@pytest.mark.parametrize("count", [5, 10, 20])
def test_a_batch_that_is_its_own_graph(features, count):
    rows = rows_of("random", 3 * 16, features, features)
    bounds = range(0, 49, 16)
    check(rows, rows, count, (bounds, bounds), 1)
    check(rows, rows, count, (bounds, bounds), 2)


def test_the_usual_tile():
    rows = rows_of("clusters", 150, 20, 0)
    check(rows[:40], rows, 10, None, 1, module.Tile())


@pytest.mark.parametrize("candidates", [1, 15, 16, 17, 33])
def test_as_many_neighbours_as_candidates(candidates):
    rows = rows_of("random", candidates, 6, 0)
    found, _ = module.nearest(rows, rows, candidates, None, 2, TILE)
    assert (found.sort(1).values == torch.arange(candidates)).all()


def test_of_equal_candidates_the_first_are_found():
    rows = torch.ones(40, 5)
    found, values = module.nearest(rows[:3], rows, 12, ((0, 1, 3), (0, 7, 20)), 1, TILE)
    places = found.sort(1).values.tolist()
    assert places == [list(range(7, 19)), *[[*range(7), *range(20, 25)]] * 2] and (values == 5).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["queries", "candidates"])
def test_rows_that_are_not_finite_harm_no_others(bad, side):
    left, right = rows_of("random", 20, 5, 1), rows_of("random", 60, 5, 2)
    harmed = [left.clone(), right.clone()]
    harmed[side == "candidates"][7, 2] = bad
    own = [0, 10, 20], [0, 30, 60]
    found, _ = module.nearest(*harmed, 4, own, 1, TILE)
    image = torch.arange(2).repeat_interleave(10)
    assert ((found >= 0) & (found < 60)).all() and all(len(set(row)) == 4 for row in found.tolist())
    assert ((found >= 30).long() != image[:, None]).all()  # of the other image, whatever they are
    if math.isnan(bad):
        usual = module.nearest(left, right, 4, own, 1, TILE)[0]
        touched = (usual == 7).any(1) if side == "candidates" else torch.arange(20) == 7
        assert torch.equal(found[~touched], usual[~touched]) and touched.any()
        assert side == "queries" or (found != 7).all()


def test_a_query_does_not_depend_on_those_beside_it():
    rows = rows_of("close", 70, 20, 4)
    together, values = module.nearest(rows[:40], rows, 10, None, 1, TILE)
    for start in (0, 7, 23):
        apart = module.nearest(rows[start : start + 17], rows, 10, None, 1, TILE)
        assert torch.equal(together[start : start + 17], apart[0])
        assert torch.equal(values[start : start + 17], apart[1])


def test_the_search_of_a_layer_goes_through_it(monkeypatch):
    rows = rows_of("random", 60, 5, 1)
    bounds = range(0, 61, 20)
    monkeypatch.setattr(module, "takes", lambda *_: True)
    monkeypatch.setattr(module, "_shares", lambda *_: 1)
    monkeypatch.setattr(stripes, "brute_force", None)
    found = stripes.nearest(rows, rows, 5, (bounds, bounds))
    exact = similarities(rows, rows, (bounds, bounds))
    assert torch.allclose(exact.gather(1, found), exact.topk(5, 1).values, rtol=0, atol=1e-6)


# -- the kernel, broken on purpose -------------------------------------------------------------------------------------

MUTANTS = {
    "the last tile is left out": ("range(first, last, COLUMNS)", "range(first, last - COLUMNS, COLUMNS)"),
    "own pixels are linked": ("tl.where(barring | (column", "tl.where((column"),
    "one more is barred": ("(column[None, :] < end[:, None])", "(column[None, :] <= end[:, None])"),
    "padding is linked": ("barring | (column >= last)[None, :]", "barring"),
    "the first chunk alone": ("tl.range(0, FEATURES, CHUNK", "tl.range(0, CHUNK, CHUNK"),
    "one of a tile": ("while tl.max((high > least).to(tl.int32), 0) > 0:", "for _ in range(1):"),
    "the best leaves": ("tl.argmin(best, 1)", "tl.argmax(tl.where(slot < COUNT, best, -5.0), 1)"),
    "places within the tile": ("(start + at)[:, None]", "at[:, None]"),
    "found again and again": ("(place[None, :] == at[:, None], float", "(place[None, :] > COLUMNS, float"),
    "not a number stops all": ("products = tl.where(products > LOWEST, products, LOWEST)", "pass"),
    "worst first": ("tl.argmax(best, 1)[:, None]", "tl.argmin(best, 1)[:, None]"),
}


def trial():
    """Run what breaks under every mutant."""
    rows = rows_of("random", 56, 20, 3)
    bounds = range(0, 57, 28)
    check(rows, rows, 6, (bounds, bounds), 1)
    check(rows[:9], rows, 6, None, 2)
    rows[30] = math.nan
    found, _ = module.nearest(rows, rows, 28, (bounds, bounds), 1, TILE)
    assert (found[28:].sort(1).values == torch.arange(28)).all()
    assert (found[:28].sort(1).values == torch.arange(28, 56)).all()


@pytest.mark.parametrize("name", [None, *MUTANTS])
def test_a_broken_kernel_is_noticed(name, monkeypatch, tmp_path):
    text = Path(kernels.__file__).read_text()
    if name is None:
        trial()
        return
    before, after = MUTANTS[name]
    assert text.count(before) == 1
    file = tmp_path / "broken.py"
    file.write_text(text.replace(before, after))
    spec = importlib.util.spec_from_file_location("broken", file)
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    monkeypatch.setattr(module, "kernels", broken)
    with pytest.raises((AssertionError, InterpreterError, IndexError)):
        trial()


# -- for real GPUs -----------------------------------------------------------------------------------------------------

COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from redoubt.networks import _streaming as module
from redoubt.networks._triton import search

tile, names = module.Tile(), search.arg_names
kinds = dict(queries="*fp32", candidates="*fp32", values="*fp32", barred="*i32", found="*i32")
fixed = dict(COUNT=20, SLOTS=32, FEATURES=int(sys.argv[2]), CHUNK=module.CHUNK)
fixed |= dict(ROWS=tile.rows, COLUMNS=tile.columns, PRECISION=tile.precision)
types = {name: "constexpr" if name in fixed else kinds.get(name, "i32") for name in names}
values = {(names.index(name),): value for name, value in fixed.items()}
made = compile(ASTSource(search, types, values), GPUTarget("cuda", int(sys.argv[1]), 32), {"num_warps": tile.warps})
print(made.metadata.shared, len(made.asm["cubin"]), made.asm["ptx"].count("cvt.rna.tf32.f32"))
"""


@pytest.mark.parametrize("features", [32, 128])
@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_for_a_gpu_without_one(capability, features):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, str(capability), str(features)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    shared, size, rounded = map(int, answer.stdout.split())
    assert shared <= 48 * 1024 and size > 1000  # fits every GPU that Triton knows
    assert rounded > 0  # to the nearest, as the tolerance has it
