"""Exact nearest neighbours by inner product: through boxes (`_boxes`) where that pays, else by all products.

All products are taken in passes on a CPU with numba (`_scan`), and by one kernel on a GPU with Triton (`_streaming`).
Elsewhere a stripe of similarities lives in one buffer that is written again and again; the whole matrix never exists.
The `count` best candidates of a query lie in the `count` groups of candidates with the largest maxima, so the selection
looks at maxima first, and then at the members of few groups. Queries are the columns of a stripe, and few: a product of
that shape, and maxima over its rows, run three times as fast on a CPU as those of its transpose.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence

import torch

from redoubt.errors import RedoubtError
from redoubt.networks import _boxes as boxes
from redoubt.networks import _streaming as streaming
from redoubt.networks._compiled import available
from redoubt.networks._scan import RANGE, Own, Scan, takes

STRIPE = {"cpu": 1 << 21, "cuda": 1 << 26}  # similarities in one stripe, where that is not less than LANES queries
LANES = 32  # a stripe has a multiple of this number of queries: maxima over its rows are slow otherwise
MOST = {"cpu": 128, "cuda": 1 << 20}  # queries in one stripe
GROUP = 32  # candidates behind one maximum
CROWD = 3  # maxima pay where there are this many times more groups than neighbours
FEWEST = 512  # candidates from which a pass pays
MOST_FEATURES = 256  # up to which it does

Index = boxes.Index | Scan


def index_of(candidates: torch.Tensor) -> Index | None:
    """Return what makes searches among candidates (P, d) fast on a CPU; None where there is no numba, or nothing does.

    The same candidates always have the same kind of index, whoever asks.
    """
    total, features = candidates.shape
    if candidates.device.type != "cpu" or candidates.dtype != torch.float32:
        return None
    if total < FEWEST or features > MOST_FEATURES or total * (features + 12) >= 2**31:  # offsets have 32 bits
        return None
    longest = float(candidates.detach().square().sum(1).max())  # NaN and infinities are left to stripes
    if not (RANGE[0] < longest < RANGE[1] and available()):
        return None
    return boxes.index_of(candidates) or Scan(candidates)


def nearest(
    queries: torch.Tensor, candidates: torch.Tensor, count: int, own: Own | None = None, index: Index | None = None
) -> torch.Tensor:
    """Return the candidates with the largest inner products, best first.

    Args:
        queries: (Q, d); unit vectors give cosine similarities.
        candidates: (P, d).
        count: neighbours of each query.
        own: where images begin (and, last, where they all end) among the queries and among the candidates: a query
            may not have the candidates of its own image. None when any query may have any candidate.
        index: of the candidates, if it was kept; else one is made where there is one.

    Returns:
        Indices (Q, count) into the candidates. Candidates at exactly the same similarity come in any order (through an
        index, the first come first). In stripes a row that is not finite comes first; in the kernel of a GPU, last.

    Raises:
        RedoubtError: some query has fewer candidates than `count`.

    Cost: at most Q x P inner products; memory of the results, and of an index or of one stripe and one copy of the
    candidates.
    """
    starts, stops = own or ((0, len(queries)), (0, 0))
    left = len(candidates) - max((b - a for a, b in itertools.pairwise(stops)), default=0)
    if not 0 < count <= left:
        raise RedoubtError(
            f"{count} neighbours asked for, but a pixel has {left} candidates; use more peers (or a larger batch), "
            "or fewer neighbours"
        )
    with torch.no_grad():
        index = index or index_of(candidates)
        if index is not None and takes(queries):
            return index.nearest(queries, count, own)[0]
        if streaming.takes(queries, candidates, count):
            return streaming.nearest(queries, candidates, count, own)[0]
        return brute_force(queries, candidates, count, (starts, stops))


def brute_force(queries: torch.Tensor, candidates: torch.Tensor, count: int, own: Own) -> torch.Tensor:
    """Return what `nearest` does, by all inner products, a stripe at a time."""
    search = _Search(candidates, count)
    found = [
        search(part, _overlaps(number * search.rows, len(part), *own))
        for number, part in enumerate(queries.split(search.rows))
        if len(part)
    ]
    return torch.cat(found) if found else queries.new_empty((0, count), dtype=torch.int64)


def _overlaps(
    first: int, count: int, starts: Sequence[int], stops: Sequence[int]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield, for each image among queries from `first` on, its queries (a, b) in the stripe and its candidates."""
    image = bisect.bisect_right(starts, first) - 1
    while image + 1 < len(starts) and starts[image] < first + count:
        a, b = max(starts[image] - first, 0), min(starts[image + 1] - first, count)
        if a < b and stops[image] < stops[image + 1]:
            yield a, b, stops[image], stops[image + 1]
        image += 1


class _Search:
    """Candidates prepared for search: padded to whole groups, with one buffer for all stripes."""

    def __init__(self, candidates: torch.Tensor, count: int) -> None:
        self.count, self.total = count, len(candidates)
        self.group = GROUP if self.total >= CROWD * count * GROUP else 1
        self.width = -(-self.total // self.group) * self.group
        self.candidates = candidates
        if self.width > self.total:
            self.candidates = candidates.new_zeros(self.width, candidates.shape[1])
            self.candidates[: self.total] = candidates
        kind = candidates.device.type
        self.rows = min(MOST[kind], max(1, STRIPE[kind] // self.width // LANES) * LANES)
        self.buffer = candidates.new_empty(self.width * self.rows)

    def __call__(self, queries: torch.Tensor, barred: Iterator[tuple[int, int, int, int]]) -> torch.Tensor:
        """Return indices (B, count) for queries (B, d); the queries from a to b may not have candidates c to d."""
        lanes = -(-len(queries) // LANES) * LANES
        columns = queries.new_zeros(queries.shape[1], lanes)
        columns[:, : len(queries)] = queries.T
        similarity = self.buffer[: self.width * lanes].view(self.width, lanes)
        torch.mm(self.candidates, columns, out=similarity)
        similarity[self.total :] = -math.inf
        for a, b, c, d in barred:
            similarity[c:d, a:b] = -math.inf
        return self._select(similarity)[: len(queries)]

    def _select(self, similarity: torch.Tensor) -> torch.Tensor:
        lanes, device = similarity.shape[1], similarity.device
        if self.group == 1:
            return similarity.T.contiguous().topk(self.count, 1).indices
        maxima = similarity.view(-1, self.group, lanes).amax(1)
        groups = maxima.T.contiguous().topk(self.count, 1, sorted=False).indices
        members = (groups[:, :, None] * self.group + torch.arange(self.group, device=device)).flatten(1)
        values = similarity.take(members * lanes + torch.arange(lanes, device=device)[:, None])
        return members.gather(1, values.topk(self.count, 1).indices)


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


def some_copies(order: torch.Tensor, begins: torch.Tensor, copies: int) -> torch.Tensor:
    """Return the rows, ascending, that stand for all: the first and the last `copies` of every run of equal rows.

    Whichever image is then left out, `copies` equal rows of other images remain wherever there were that many: rows of
    one image are neighbours in the order, so an image cannot hold both ends without holding all that lies between.
    """
    run = begins.cumsum(0) - 1
    first = begins.nonzero()[:, 0]
    last = torch.cat([first[1:], first.new_tensor([len(order)])]) - 1
    place = torch.arange(len(order), device=order.device)
    kept = (place - first[run] < copies) | (last[run] - place < copies)
    return order[kept].sort().values


def distinct(order: torch.Tensor, begins: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sorted indices of the unique rows per image, and the inverse mapping; arguments as from `duplicates`."""
    begins = begins.clone()
    begins[1:] |= image[order[1:]] != image[order[:-1]]
    firsts = order[begins]
    rows, place = firsts.sort()
    inverse = torch.empty_like(order)
    inverse[order] = place.argsort()[begins.cumsum(0) - 1]
    return rows, inverse


def enough(neighbours: int, dropout: float) -> int:
    """Return how many candidates are enough to find `neighbours` undropped, but for one pixel in several thousand."""
    mean, deviation = neighbours / (1 - dropout), math.sqrt(neighbours * dropout) / (1 - dropout)
    return math.ceil(mean + 4 * deviation)


def surely_enough(neighbours: int, dropout: float) -> int:
    """Return how many candidates are enough but for a chance below 2^-24, the step of torch's own draws."""

    def short(count: int) -> float:
        terms = (math.comb(count, k) * (1 - dropout) ** k * dropout ** (count - k) for k in range(neighbours))
        return sum(terms)

    return next(count for count in itertools.count(neighbours) if short(count) < 2.0**-24)


def first_kept(found: torch.Tensor, kept: torch.Tensor, count: int) -> torch.Tensor:
    """Return the first `count` kept of each row of `found` (Q, C).

    A row that has fewer is filled up with its nearest dropped ones.
    """
    rank = kept.cumsum(1)
    spare = rank[:, -1:] + (~kept).cumsum(1)  # places after all kept ones, for the dropped
    slot = torch.where(kept, rank, spare).clamp(max=count + 1) - 1
    return found.new_empty(len(found), count + 1).scatter_(1, slot, found)[:, :count]


def with_own(directions: torch.Tensor, size: int, peers: torch.Tensor) -> torch.Tensor:
    """Return each pixel of some images, and then the nearest among its peers and the other pixels of its image.

    Args:
        directions: (P + Q, d) of length one (or zero): those of all peers, then those of the images' pixels.
        size: pixels of each image; one image comes after the other.
        peers: (Q, C), the C nearest peer pixels of each.

    Returns:
        Indices (Q, 1 + C) into `directions`: first the pixel itself, once, whatever ties with it; then C, best first.
        Of candidates at exactly the same similarity those of the image come first.

    Cost: Q x size inner products; memory of one stripe.
    """
    count, first = peers.shape[1], len(directions) - len(peers)
    stripe = max(1, STRIPE[directions.device.type] // (size * max(size, 2 * count * directions.shape[1], 1)))
    itself = torch.arange(first, len(directions), device=directions.device)
    found = [peers.new_empty(0, count)]
    with torch.no_grad():
        for rows, near in zip(itself.split(stripe * size), peers.split(stripe * size), strict=True):
            own = directions[rows].unflatten(0, (len(rows) // size, size))
            similarity = own @ own.transpose(1, 2)
            similarity.diagonal(dim1=1, dim2=2).fill_(-math.inf)
            others = similarity.topk(min(count, size - 1), 2).indices + rows[::size, None, None]
            pool = torch.cat([others.flatten(0, 1), near], 1)
            values = torch.einsum("qd,qkd->qk", directions[rows], directions[pool])
            found.append(pool.gather(1, values.sort(dim=1, descending=True, stable=True).indices[:, :count]))
    return torch.cat([itself[:, None], torch.cat(found)], 1)
