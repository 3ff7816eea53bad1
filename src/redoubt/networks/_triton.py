"""The search of `redoubt.networks._streaming` as a Triton kernel. Imported only where Triton is."""

import triton
import triton.language as tl

LOWEST = tl.constexpr(-3.4028234663852886e38)  # of what is not finite: behind all else, and yet before what is barred


@triton.jit
def search(
    queries,
    candidates,
    barred,
    found,
    values,
    total_queries,
    total_candidates,
    share,
    COUNT: tl.constexpr,
    SLOTS: tl.constexpr,
    FEATURES: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Find the `COUNT` best candidates of `ROWS` queries among one share of all candidates, best first.

    Args:
        queries: (Q, FEATURES) float32, padded with zeros to whole chunks.
        candidates: (P, FEATURES) float32, likewise.
        barred: (Q, 2) int32, the first candidate that a query may not have, and the one after the last.
        found: (Q, shares, COUNT) int32, the places of candidates; 0 where fewer are open.
        values: (Q, shares, COUNT) float32, their products; -inf where fewer are open.
        total_queries: Q.
        total_candidates: P.
        share: candidates of one program along the second axis of the grid.
        COUNT: K.
        SLOTS: a power of two, at least K.
        FEATURES: a multiple of CHUNK.
        CHUNK: features that are multiplied at once.
        ROWS: queries of a program.
        COLUMNS: candidates whose products a program holds at once.
        PRECISION: of the product, see `triton.language.dot`.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * share
    last = tl.minimum(first + share, total_candidates)
    inside = row < total_queries
    begin = tl.load(barred + 2 * row, mask=inside, other=0)
    end = tl.load(barred + 2 * row + 1, mask=inside, other=total_candidates)
    slot = tl.arange(0, SLOTS)[None, :]
    axis = tl.arange(0, CHUNK)
    place = tl.arange(0, COLUMNS)
    best = tl.zeros((ROWS, SLOTS), tl.float32) + tl.where(slot < COUNT, float("-inf"), float("inf"))
    where = tl.zeros((ROWS, SLOTS), tl.int32)
    least = tl.full((ROWS,), float("-inf"), tl.float32)
    for start in range(first, last, COLUMNS):
        column = start + place
        products = tl.zeros((ROWS, COLUMNS), tl.float32)
        for axes in tl.range(0, FEATURES, CHUNK, num_stages=2):
            left = queries + row[:, None] * FEATURES + (axes + axis)[None, :]
            right = candidates + column[None, :] * FEATURES + (axes + axis)[:, None]
            products = tl.dot(
                tl.load(left, mask=inside[:, None], other=0.0),
                tl.load(right, mask=(column < last)[None, :], other=0.0),
                products,
                input_precision=PRECISION,
            )
        products = tl.where(products > LOWEST, products, LOWEST)
        barring = (column[None, :] >= begin[:, None]) & (column[None, :] < end[:, None])
        products = tl.where(barring | (column >= last)[None, :], float("-inf"), products)
        high = tl.max(products, 1)
        while tl.max((high > least).to(tl.int32), 0) > 0:
            at = tl.argmax(products, 1)
            taken = (slot == tl.argmin(best, 1)[:, None]) & (high > least)[:, None]
            best = tl.where(taken, high[:, None], best)
            where = tl.where(taken, (start + at)[:, None], where)
            least = tl.min(best, 1)
            products = tl.where(place[None, :] == at[:, None], float("-inf"), products)
            high = tl.max(products, 1)
    best = tl.where(slot < COUNT, best, float("-inf"))
    into = (row * tl.num_programs(1) + tl.program_id(1)) * COUNT
    for rank in range(COUNT):
        chosen = slot == tl.argmax(best, 1)[:, None]
        tl.store(values + into + rank, tl.max(best, 1), mask=inside)
        tl.store(found + into + rank, tl.sum(tl.where(chosen, where, 0), 1), mask=inside)
        best = tl.where(chosen, float("-inf"), best)
