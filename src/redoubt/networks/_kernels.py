"""The loops of the search through an index of boxes, for numba; imported only where numba is.

What is computed, and why nothing is missed: see `redoubt.networks._boxes`.

The shapes of loops matter. Additions run over the LEAF rows of a leaf, which lie side by side for each axis, in few
long terms, at unsigned offsets (a signed one might count from the end): numba turns that into vector instructions.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array  # of any type and shape, as the docstrings tell

from redoubt.networks._compiled import compiled

LEAF = 32  # rows of a leaf
LANES = 16  # leaves of a group
AXES = 12  # axes that a box has
HEAD = 8  # axes of a row that are looked at first
SHRINK = np.float32(1 - 2.0**-20)  # more than what rounding adds to a distance, of which every sum has 10 roundings
INFINITY = np.float32(np.inf)
EXACT = ("nnan", "nsz")  # no row has a NaN; zeros have no sign; additions keep their order


@compiled(*EXACT)
def moments(rows: Array, step: int, mean: Array, products: Array) -> None:
    """Add up every `step`-th row (P, d) in `mean` (d,) and the products of their features in `products` (d, d)."""
    number = 0
    for i in range(0, rows.shape[0], step):
        number += 1
        for a in range(rows.shape[1]):
            mean[a] += rows[i, a]
    for a in range(rows.shape[1]):
        mean[a] /= number
    for i in range(0, rows.shape[0], step):
        for a in range(rows.shape[1]):
            value = rows[i, a] - mean[a]
            for b in range(rows.shape[1]):
                products[a, b] += value * (rows[i, b] - mean[b])


@compiled(*EXACT)
def rotate(rows: Array, row: int, axes: Array, out: Array) -> None:
    """Put coordinates of a row of `rows` (P, d) on `axes` (d, D), float64, into `out` (D,)."""
    for a in range(axes.shape[1]):
        out[a] = 0.0
    for k in range(axes.shape[0]):
        value = np.float64(rows[row, k])
        for a in range(axes.shape[1]):
            out[a] += value * axes[k, a]


@compiled(*EXACT)
def project(rows: Array, axes: Array, out: Array, first: int, last: int) -> None:
    """Put coordinates of rows `first` to `last` on `axes` (d, D) into `out` (P, D)."""
    wide = np.empty(axes.shape[1], np.float64)
    for i in range(first, last):
        rotate(rows, i, axes, wide)
        for a in range(axes.shape[1]):
            out[i, a] = wide[a]


@compiled(*EXACT)
def cut(keys: Array, order: Array, first: int, last: int, work: Array) -> int:
    """Order `order[first:last]` by a median along the widest axis of `keys` (P, D), and return where the cut lies."""
    size = last - first
    unit = LEAF * LANES if size > LEAF * LANES else LEAF
    middle = first + ((size + unit - 1) // unit + 1) // 2 * unit
    widest, axis = -1.0, 0
    step = max(1, size // 256)
    for a in range(keys.shape[1]):
        total, squares, number = 0.0, 0.0, 0
        for i in range(first, last, step):
            value = np.float64(keys[order[i], a])
            total += value
            squares += value * value
            number += 1
        spread = squares / number - (total / number) ** 2
        if spread > widest:
            widest, axis = spread, a
    for i in range(first, last):
        work[i] = keys[order[i], axis]
    left, right = first, last - 1
    while left < right:
        pivot = work[(left + right) // 2]
        i, j = left, right
        while i <= j:
            while work[i] < pivot:
                i += 1
            while work[j] > pivot:
                j -= 1
            if i <= j:
                work[i], work[j] = work[j], work[i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            right = j
        elif middle >= i:
            left = i
        else:
            break
    return middle


@compiled(*EXACT)
def arrange(keys: Array, order: Array, first: int, last: int, work: Array) -> None:
    """Cut `order[first:last]` until every piece is a leaf."""
    todo = np.empty((64, 2), np.int64)
    todo[0, 0], todo[0, 1] = first, last
    count = 1
    while count > 0:
        count -= 1
        first, last = todo[count, 0], todo[count, 1]
        if last - first > LEAF:
            middle = cut(keys, order, first, last, work)
            todo[count, 0], todo[count, 1] = first, middle
            todo[count + 1, 0], todo[count + 1, 1] = middle, last
            count += 2


@compiled(*EXACT)
def pack(
    rows: Array, axes: Array, order: Array, leaves: Array, rest: Array, boxes: Array, most: Array, first: int, last: int
) -> None:
    """Fill the leaves `first` to `last`: rows on `axes` (d, D), transposed, their norms past HEAD, boxes and norms."""
    dims = axes.shape[1]
    wide = np.empty(dims, np.float64)
    for leaf in range(first, last):
        box = leaf // LANES * (AXES * 2 * LANES) + leaf % LANES
        for a in range(AXES):
            boxes[box + a * 2 * LANES] = INFINITY
            boxes[box + a * 2 * LANES + LANES] = -INFINITY
        longest = 0.0
        for j in range(LEAF):
            row = order[leaf * LEAF + j]
            if row < 0:
                continue
            rotate(rows, row, axes, wide)
            length, tail = 0.0, 0.0
            for a in range(dims):
                value = np.float32(wide[a])
                leaves[(leaf * dims + a) * LEAF + j] = value
                length += np.float64(value) * np.float64(value)
                if a >= HEAD:
                    tail += np.float64(value) * np.float64(value)
                if a < AXES:
                    low, high = box + a * 2 * LANES, box + a * 2 * LANES + LANES
                    boxes[low] = min(boxes[low], value)
                    boxes[high] = max(boxes[high], value)
            rest[leaf * LEAF + j] = np.float32(np.sqrt(tail) * (1 + 2.0**-22))
            longest = max(longest, length)
        most[leaf] = np.float32(longest * (1 + 2.0**-22))


@compiled(*EXACT)
def enclose(boxes: Array, most: Array, outer: Array, longest: Array) -> None:
    """Make the boxes `outer` and greatest norms `longest` of groups from those of their leaves."""
    for group in range(most.shape[0] // LANES):
        to = group // LANES * (AXES * 2 * LANES) + group % LANES
        for a in range(AXES):
            start = (group * AXES + a) * 2 * LANES
            low, high = INFINITY, -INFINITY
            for j in range(LANES):
                if most[group * LANES + j] >= 0:
                    low, high = min(low, boxes[start + j]), max(high, boxes[start + LANES + j])
            outer[to + a * 2 * LANES] = low
            outer[to + a * 2 * LANES + LANES] = high
        for j in range(LANES):
            longest[group] = max(longest[group], most[group * LANES + j])


@compiled(*EXACT)
def gaps(boxes: Array, block: int, query: Array, most: Array, out: Array, to: int) -> None:
    """Put squared distances of a query to LANES boxes, less their rows' greatest squared norms, into `out[to:]`."""
    zero, into, first = np.float32(0), np.uint32(to), np.uint32(block * LANES)
    for k in range(0, AXES, 4):
        z = np.uint32((block * AXES + k) * 2 * LANES)
        q0, q1, q2, q3 = query[k], query[k + 1], query[k + 2], query[k + 3]
        for j in range(LANES):
            w0 = max(zero, max(boxes[z + j] - q0, q0 - boxes[z + 16 + j]))
            w1 = max(zero, max(boxes[z + 32 + j] - q1, q1 - boxes[z + 48 + j]))
            w2 = max(zero, max(boxes[z + 64 + j] - q2, q2 - boxes[z + 80 + j]))
            w3 = max(zero, max(boxes[z + 96 + j] - q3, q3 - boxes[z + 112 + j]))
            out[into + j] = (w0 * w0 + w1 * w1 + w2 * w2 + w3 * w3) + (out[into + j] if k > 0 else zero)
    for j in range(LANES):
        out[into + j] = out[into + j] * SHRINK - most[first + j]


@compiled(*EXACT, "reassoc")
def excess(values: Array, rest: Array, start: int, factor: float, limit: float, size: int) -> np.float32:
    """Return something above zero if one of `size` values, with `factor` of what `rest` says, is above a limit."""
    zero, begin = np.float32(0), np.uint32(start)  # unsigned: it is no place counted from the end
    total = zero
    for j in range(size):
        total += max(zero, values[j] + factor * rest[begin + j] - limit)
    return total


@compiled(*EXACT)
def multiply(leaves: Array, leaf: int, dims: int, query: Array, out: Array) -> None:
    """Put products of a query with the rows of a leaf on the first HEAD axes into `out` (LEAF,)."""
    o = np.uint32(leaf * dims * LEAF)
    q0, q1, q2, q3, q4, q5, q6, q7 = query[0], query[1], query[2], query[3], query[4], query[5], query[6], query[7]
    for j in range(LEAF):
        out[j] = (q0 * leaves[o + j] + q1 * leaves[o + 32 + j] + q2 * leaves[o + 64 + j] + q3 * leaves[o + 96 + j]) + (
            q4 * leaves[o + 128 + j] + q5 * leaves[o + 160 + j] + q6 * leaves[o + 192 + j] + q7 * leaves[o + 224 + j]
        )


@compiled(*EXACT)
def multiply_rest(leaves: Array, leaf: int, dims: int, query: Array, out: Array) -> None:
    """Add the products on the other axes."""
    for k in range(HEAD, dims, 4):
        o = np.uint32((leaf * dims + k) * LEAF)
        q0, q1, q2, q3 = query[k], query[k + 1], query[k + 2], query[k + 3]
        for j in range(LEAF):
            out[j] += q0 * leaves[o + j] + q1 * leaves[o + 32 + j] + q2 * leaves[o + 64 + j] + q3 * leaves[o + 96 + j]


@compiled(*EXACT)
def insert(value: float, candidate: int, best: Array, place: Array) -> None:
    """Put a candidate into the list of the best, if it is one; of equal ones the lower number comes first."""
    s = best.shape[0] - 1
    if value < best[s] or (value == best[s] and candidate > place[s]):
        return
    while s > 0 and (best[s - 1] < value or (best[s - 1] == value and place[s - 1] > candidate)):
        best[s], place[s] = best[s - 1], place[s - 1]
        s -= 1
    best[s], place[s] = value, candidate


@compiled(*EXACT)
def upcoming(near: Array, t: int, reach: float, any_order: bool) -> int:
    """Return the next leaf of a group to look at, after t or the nearest of all, or LANES where none is near enough."""
    if any_order:
        t += 1
        while t < LANES and near[t] >= reach:
            t += 1
        return t
    t = 0
    for j in range(1, LANES):
        if near[j] < near[t]:
            t = j
    return t if near[t] < reach else LANES


@compiled(*EXACT)
def search(
    rows: Array,
    axes: Array,
    order: Array,
    leaves: Array,
    rest: Array,
    boxes: Array,
    most: Array,
    outer: Array,
    longest: Array,
    greatest: float,
    slack: Array,
    asked: Array,
    barred: Array,
    found: Array,
    values: Array,
    a: int,
    b: int,
) -> None:
    """Find the nearest for the queries `asked[a:b]`, rows of `rows` (Q, d).

    Args: see `redoubt.networks._boxes.Index`; `greatest` is the greatest squared norm, `slack` (2,) the margins of a
    leaf and of a row where squared norms have mean one; `barred` (Q, 2) candidates of the own image; `found` (Q, K) and
    `values` (Q, K) are written.
    """
    dims, groups, count = axes.shape[1], most.shape[0] // LANES, found.shape[1]
    size = order.shape[0] * dims // leaves.shape[0] * LEAF  # LEAF, unknown to the compiler, which would unroll loops
    wide, query, out = np.empty(dims, np.float64), np.empty(dims, np.float32), np.empty(LEAF, np.float32)
    far, near = np.empty(longest.shape[0], np.float32), np.empty(LANES, np.float32)
    best, place = np.empty(count, np.float32), np.empty(count, np.int64)
    for asking in range(a, b):
        row = asked[asking]
        rotate(rows, row, axes, wide)
        length, tail = 0.0, 0.0
        for k in range(dims):
            query[k] = np.float32(wide[k])
            length += np.float64(query[k]) * np.float64(query[k])
            if k >= HEAD:
                tail += np.float64(query[k]) * np.float64(query[k])
        scale = (length + greatest) / 2
        for_leaf, for_row = slack[0] * scale, np.float32(slack[1] * scale)
        remainder = np.float32(np.sqrt(tail) * (1 + 2.0**-22))
        best[:] = -INFINITY
        reach, first = INFINITY, 0
        for block in range(far.shape[0] // LANES):
            gaps(outer, block, query, longest, far, block * LANES)
        for group in range(groups):
            if far[group] < far[first]:
                first = group
        for visit in range(-1, groups):
            group = first if visit < 0 else visit
            if visit == first or far[group] >= reach:
                continue
            gaps(boxes, group, query, most, near, 0)
            t = upcoming(near, -1, reach, visit >= 0)
            while t < LANES:
                near[t] = INFINITY
                leaf = group * LANES + t
                limit = best[count - 1] - for_row
                multiply(leaves, leaf, dims, query, out)
                if excess(out, rest, leaf * LEAF, remainder, limit, size) > 0:
                    multiply_rest(leaves, leaf, dims, query, out)
                    if excess(out, rest, leaf * LEAF, np.float32(0), limit, size) > 0:
                        for j in range(LEAF):
                            candidate = order[leaf * LEAF + j]
                            if candidate >= 0 and not barred[row, 0] <= candidate < barred[row, 1]:
                                insert(out[j], candidate, best, place)
                        reach = np.float32(length - 2 * np.float64(best[count - 1]) + for_leaf)
                t = upcoming(near, t, reach, visit >= 0)
        for s in range(count):
            found[row, s], values[row, s] = place[s], best[s]
