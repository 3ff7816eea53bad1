"""Exact nearest neighbours by inner product, a stripe of queries at a time.

A stripe of similarities lives in one buffer that is written again and again and stays in cache; the whole matrix never
exists. The `count` best candidates of a query lie in the `count` groups of candidates with the largest maxima, so the
selection looks at maxima first, and then at the members of few groups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from redoubt.errors import RedoubtError

STRIPE = {"cpu": 1 << 20, "cuda": 1 << 26}  # similarities in one stripe: 4 MiB stay in cache
GROUPS = (8, 16)  # maxima behind one maximum of maxima, and candidates behind one maximum
CROWD = 3  # a level of maxima pays where it leaves so many times more groups than neighbours


def nearest(
    queries: torch.Tensor, candidates: torch.Tensor, count: int, own: tuple[Sequence[int], Sequence[int]] | None = None
) -> torch.Tensor:
    """Return the candidates with the largest inner products, best first.

    Args:
        queries: (Q, d); unit vectors give cosine similarities.
        candidates: (P, d).
        count: neighbours of each query.
        own: where images begin (and, last, where they all end) among the queries and among the candidates: a query
            may not have the candidates of its own image. None when any query may have any candidate.

    Returns:
        Indices (Q, count) into the candidates. Candidates at exactly the same similarity come in any order.

    Raises:
        RedoubtError: some query has fewer candidates than `count`.

    Cost: Q x P inner products; memory of one stripe, of the indices and of one copy of the candidates.
    """
    starts, stops = own or ((0, len(queries)), (0, 0))
    images = list(zip(itertools.pairwise(starts), itertools.pairwise(stops), strict=True))
    left = len(candidates) - max((last - first for _, (first, last) in images), default=0)
    if not 0 < count <= left:
        raise RedoubtError(
            f"{count} neighbours asked for, but a pixel has {left} candidates; use more peers (or a larger batch), "
            "or fewer neighbours"
        )
    with torch.no_grad():
        search = _Search(candidates, count)
        found = [search(part, barred) for (a, b), barred in images for part in queries[a:b].split(search.rows)]
        return torch.cat(found) if found else queries.new_empty((0, count), dtype=torch.int64)


class _Search:
    """Candidates prepared for search: transposed, padded to whole groups, with one buffer for all stripes."""

    def __init__(self, candidates: torch.Tensor, count: int) -> None:
        self.count, self.total = count, len(candidates)
        choices = (GROUPS, GROUPS[-1:], ())
        self.levels = next(
            levels for levels in choices if self.total >= CROWD * count * math.prod(levels) or not levels
        )
        unit = math.prod(self.levels)
        self.width = -(-self.total // unit) * unit
        self.columns = candidates.new_zeros(candidates.shape[1], self.width)
        self.columns[:, : self.total] = candidates.T
        self.rows = max(1, STRIPE[candidates.device.type] // self.width)
        self.buffer = candidates.new_empty(self.rows, self.width)
        self.offsets = [torch.arange(group, device=candidates.device) for group in self.levels]

    def __call__(self, queries: torch.Tensor, barred: tuple[int, int]) -> torch.Tensor:
        """Return indices (B, count) for queries (B, d), none from `barred[0]` up to `barred[1]`."""
        similarity = self.buffer[: len(queries)]
        torch.mm(queries, self.columns, out=similarity)
        similarity[:, self.total :] = -math.inf
        similarity[:, barred[0] : barred[1]] = -math.inf
        return self._select(similarity)

    def _select(self, similarity: torch.Tensor) -> torch.Tensor:
        # Members of a group lie one group count apart, so that a maximum runs over whole rows of memory.
        pyramid = [similarity]
        for group in reversed(self.levels):
            level = pyramid[-1]
            pyramid.append(level.view(len(level), group, level.shape[1] // group).amax(1))
        found = pyramid.pop().topk(self.count, 1, sorted=not self.levels).indices
        for level, offsets in zip(reversed(pyramid), self.offsets, strict=True):
            apart = level.shape[1] // len(offsets)
            members = (found[:, :, None] + apart * offsets).flatten(1)
            best = level.gather(1, members).topk(self.count, 1, sorted=level is similarity).indices
            found = members.gather(1, best)
        return found


def duplicates(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the order (P,) that puts equal rows of `features` (P, d) side by side, and where a new value begins.

    The second tensor (P,) is True at the first row of every run of equal rows, in that order; within a run, rows keep
    their order. Rows are compared exactly; two runs of the same value are possible, but for a chance of 2^-50 or so.
    """
    weights = torch.linspace(1.0, 2.0, features.shape[1], dtype=torch.float64, device=features.device).sqrt()
    order = (features.double() @ weights).argsort(stable=True)
    ordered = features[order]
    begins = torch.ones(len(features), dtype=torch.bool, device=features.device)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(1)
    return order, begins
