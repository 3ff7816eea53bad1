"""Exact nearest neighbours by all inner products, on a CPU with numba: a pass over the candidates for 64 queries.

Six candidates are multiplied by all queries of a pass at once, and nothing is kept of a product that is not above the
K-th best of its query so far: neither the matrix of similarities nor a stripe of it exists. A product of rows (d,) is a
sum from the first feature to the last. Each term goes through at most d + 1 roundings, so the product is off by less
than that many times u = 2^-24 and the mean of both squared norms. It does not depend on the other queries, nor on
threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from redoubt.lazily import lazy, np
from redoubt.networks._compiled import shared

if TYPE_CHECKING:
    from redoubt.networks import _scan_kernels as kernels
else:
    kernels = lazy("redoubt.networks._scan_kernels")

RANGE = (1e-12, 1e12)  # of the greatest squared norm: nothing below underflows or overflows
Own = tuple[Sequence[int], Sequence[int]]


class Scan:
    """Candidates (P, d), float32 and finite, in a copy of their own that is padded to whole groups."""

    def __init__(self, candidates: torch.Tensor) -> None:
        self.total, self.dims = candidates.shape
        padded = np.zeros((-(-self.total // kernels.ROWS) * kernels.ROWS, self.dims), np.float32)
        padded[: self.total] = candidates.detach().numpy()
        self.rows = padded.reshape(-1)

    def nearest(self, queries: torch.Tensor, count: int, own: Own | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the nearest (Q, count), best first, and their inner products; arguments as of `_nearest.nearest`."""
        rows = queries.detach().contiguous().numpy()
        found, values = np.empty((len(rows), count), np.int64), np.empty((len(rows), count), np.float32)
        given = (self.rows, self.dims, self.total, barred(len(rows), own), found, values)
        width = kernels.WIDTH
        shared(
            lambda first, last: kernels.scan(rows, *given, first * width, min(last * width, len(rows))),
            -(-len(rows) // width),
            8,
        )
        return torch.from_numpy(found), torch.from_numpy(values)


def takes(queries: torch.Tensor) -> bool:
    """Return whether all of some queries (Q, d) are finite and neither huge nor of another type."""
    return queries.dtype == torch.float32 and bool(queries.square().sum() < RANGE[1])


def barred(queries: int, own: Own | None) -> np.ndarray:
    """Return the first candidate of each query's own image and the one after its last (Q, 2)."""
    spans = np.zeros((queries, 2), np.int64)
    for (a, b), span in zip(*map(itertools.pairwise, own or ((), ())), strict=True):
        spans[a:b] = span
    return spans
