"""Exact nearest neighbours by inner product through boxes, on a CPU with numba.

Candidates are rotated onto their principal axes and cut by medians into leaves of 32 rows; a leaf has the box of its
rows on the first 12 axes, and 16 leaves are a group with a box. Let a query be p, a row of a leaf y, both rotated and
rounded to float32, M the greatest |y|^2 in the leaf, and D the squared distance of p to the box. As D <= |p - y|^2,

    2 p.y = |p|^2 + |y|^2 - |p - y|^2 <= |p|^2 + M - D,

so a leaf whose right side is below twice the K-th best so far has none of the K. Inside a leaf the first 8 axes are
multiplied first; with r(.) the norm on the others, p.y <= (their sum) + r(p) r(y) by Cauchy and Schwarz.

Rounding. Let u = 2^-24, and N the mean of |p|^2 and the greatest |y|^2, which no |p.y| exceeds. A computed product is
within n u N of p.y, n = 5 + (d - 8) / 4 being the most roundings that a term goes through. A computed D is shrunk by
more than its own roundings; the rest of the comparison adds less than 9 u N. So with a margin of (2 n + 10) u N a leaf
that is left out has no row whose computed product is above the K-th best: the search finds what multiplying by all
candidates in the same arithmetic would. For a row the two products and the sum come to less than (n + 11) u N. Rotation
is done in float64, and rounding it to float32 changes a product by less than 3 u N: `tolerance`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from redoubt.lazily import lazy, np
from redoubt.networks._compiled import done, shared
from redoubt.networks._scan import Own, barred

if TYPE_CHECKING:
    from redoubt.networks import _kernels as kernels
else:
    kernels = lazy("redoubt.networks._kernels")

FEWEST = 4096  # candidates from which boxes pay
MOST_AXES = 64  # features up to which they do
REST = 0.15  # share of the spread that they let lie off the first 8 axes
ROUNDING = 2.0**-24
SAMPLE = 2048  # rows that tell the principal axes


def tolerance(features: int) -> float:
    """Return by how much a computed inner product of rows (d,) may differ, if their squared norms have mean one."""
    return (_roundings(_padded(features)) + 3) * ROUNDING


def _padded(features: int) -> int:
    return max(12, -(-features // 4) * 4)


def _roundings(dims: int) -> int:
    return 5 + (dims - 8) // 4


def index_of(candidates: torch.Tensor) -> Index | None:
    """Return an index of candidates (P, d), float32 and finite, on a CPU with numba, or None where it does not pay.

    Boxes leave out little where rows spread along many axes, as in deep layers: then `_scan` is faster. Candidates
    alone decide, so that the kind of search does not depend on the images that ask.
    """
    if len(candidates) < FEWEST or candidates.shape[1] > MOST_AXES:
        return None
    axes, spread = _principal(candidates.detach().contiguous().numpy())
    return Index(candidates, axes) if spread[kernels.HEAD :].sum() <= REST * spread.sum() else None


class Index:
    """Candidates (P, d), float32 and finite, cut into leaves; takes 1.2 to 1.4 times their memory from d = 20 on."""

    def __init__(self, candidates: torch.Tensor, axes: np.ndarray | None = None) -> None:
        rows = candidates.detach().contiguous().numpy()
        self.axes = _principal(rows)[0] if axes is None else axes
        self.total, dims = len(rows), self.axes.shape[1]
        leaves = -(-self.total // kernels.LEAF)
        groups = -(-leaves // kernels.LANES)
        outer = -(-groups // kernels.LANES)
        self.order = np.full(leaves * kernels.LEAF, -1, np.int32)
        self.order[: self.total] = _arranged(rows, self.axes)
        self.leaves = np.zeros(leaves * dims * kernels.LEAF, np.float32)
        self.rest = np.zeros(leaves * kernels.LEAF, np.float32)
        self.boxes = np.full(groups * kernels.AXES * 2 * kernels.LANES, np.inf, np.float32)
        self.outer = np.full(outer * kernels.AXES * 2 * kernels.LANES, np.inf, np.float32)
        self.most = np.full(groups * kernels.LANES, -1, np.float32)  # of a leaf that is none: -1
        self.longest = np.full(outer * kernels.LANES, -1, np.float32)
        arrays = (self.leaves, self.rest, self.boxes, self.most)
        shared(lambda first, last: kernels.pack(rows, self.axes, self.order, *arrays, first, last), leaves)
        kernels.enclose(self.boxes, self.most, self.outer, self.longest)
        self.greatest, count = float(self.most.max()), _roundings(dims)
        self.slack = np.array([(2 * count + 10) * ROUNDING, (count + 11) * ROUNDING])

    def nearest(self, queries: torch.Tensor, count: int, own: Own | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the nearest (Q, count), best first, and their inner products; arguments as of `_nearest.nearest`."""
        rows = queries.detach().contiguous().numpy()
        asked, spans = _arranged(rows, self.axes), barred(len(rows), own)
        found, values = np.empty((len(rows), count), np.int64), np.empty((len(rows), count), np.float32)
        arrays = (self.order, self.leaves, self.rest, self.boxes, self.most, self.outer, self.longest)
        limits = (self.greatest, self.slack)
        shared(
            lambda first, last: kernels.search(
                rows, self.axes, *arrays, *limits, asked, spans, found, values, first, last
            ),
            len(rows),
            8,
        )
        return torch.from_numpy(found), torch.from_numpy(values)


def _principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the principal axes of rows (P, d), widest first, as columns (d, D), zero past d; their spreads (d,)."""
    size = rows.shape[1]
    mean, products = np.zeros(size), np.zeros((size, size))
    kernels.moments(rows, max(1, len(rows) // SAMPLE), mean, products)
    axes = np.zeros((size, _padded(size)))
    spread, found = np.linalg.eigh(products)
    axes[:, :size] = found[:, ::-1]
    return axes, spread[::-1]


def _arranged(rows: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return an order (P,) of rows in which pieces of a leaf's size are near each other."""
    keys, order = np.empty((len(rows), kernels.AXES), np.float32), np.arange(len(rows), dtype=np.int32)
    first_axes, work = np.ascontiguousarray(axes[:, : kernels.AXES]), np.empty(len(rows), np.float32)
    shared(lambda first, last: kernels.project(rows, first_axes, keys, first, last), len(rows))
    pieces = [(0, len(rows))]
    while len(pieces) < torch.get_num_threads() and min(b - a for a, b in pieces) > kernels.LEAF:
        middles = [kernels.cut(keys, order, *piece, work) for piece in pieces]
        pieces = [part for (a, b), m in zip(pieces, middles, strict=True) for part in ((a, m), (m, b))]
    done(lambda first, last: kernels.arrange(keys, order, first, last, work), pieces)
    return order
