"""The loops of the search by all products, for numba; imported only where numba is. See `redoubt.networks._scan`.

`multiply` is written in the words of LLVM, through llvmlite, which numba brings: sums of ROWS candidates and LANES
queries stay in registers over all features. Loops in Python that numba makes vectors of wrote them to memory after
every four features, and took twice as long.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import ndarray as Array  # of any type and shape, as the docstrings tell

from redoubt.networks._compiled import compiled
from redoubt.networks._kernels import EXACT, INFINITY, insert

WIDTH = 64  # queries that pass over the candidates together
ROWS = 6  # candidates that are multiplied together
LANES = 16  # queries of a vector; with ROWS: as many sums as fill the registers of AVX2


@intrinsic
def multiply(typing: Any, block: Any, rows: Any, start: Any, dims: Any, limits: Any, out: Any) -> tuple:
    """Multiply WIDTH queries with ROWS rows, and return whether a product is above the limit of its query.

    Args: `block` (dims * WIDTH,) float32 has the queries, their features on one axis side by side; the first row is at
    `start` of `rows` (P * dims,); `limits` (WIDTH,); products are put into `out` (ROWS * WIDTH,).
    """
    return types.boolean(block, rows, start, dims, limits, out), _multiply


def _multiply(context: Any, builder: Any, signature: Any, given: Any) -> Any:
    """Write the instructions of `multiply`."""
    number, lanes = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
    fused = ("contract",)  # a multiplication and an addition may be one instruction

    def pointer(argument: int) -> Any:
        return context.make_array(signature.args[argument])(context, builder, given[argument]).data

    def vector(array: Any, at: Any) -> Any:
        return builder.bitcast(builder.gep(array, [at]), lanes.as_pointer())

    def repeated(value: Any) -> Any:
        nothing, first = ir.Constant(lanes, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(builder.insert_element(nothing, value, first), nothing, places)

    def larger(one: Any, other: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", one, other, flags=("nnan", "nsz")), one, other)

    block, rows, limits, out = (pointer(argument) for argument in (0, 1, 4, 5))
    start, dims = given[2], given[3]
    sums = [cgutils.alloca_once(builder, lanes) for _ in range(ROWS)]
    found = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(LANES), 0))
    with cgutils.for_range(builder, number(WIDTH // LANES)) as columns:
        first = builder.mul(columns.index, number(LANES))
        for total in sums:
            builder.store(ir.Constant(lanes, [0.0] * LANES), total)
        with cgutils.for_range(builder, dims) as features:
            at = builder.add(builder.mul(features.index, number(WIDTH)), first)
            queries, row = builder.load(vector(block, at), align=4), builder.add(start, features.index)
            for total in sums:
                product = builder.fmul(repeated(builder.load(builder.gep(rows, [row]))), queries, flags=fused)
                builder.store(builder.fadd(builder.load(total), product, flags=fused), total)
                row = builder.add(row, dims)
        largest = builder.load(sums[0])
        for place, total in enumerate(sums):
            products = builder.load(total)
            builder.store(products, vector(out, builder.add(first, number(place * WIDTH))), align=4)
            largest = larger(products, largest)
        over = builder.fcmp_ordered(">", largest, builder.load(vector(limits, first), align=4))
        builder.store(builder.or_(builder.load(found), builder.bitcast(over, ir.IntType(LANES))), found)
    return builder.icmp_unsigned("!=", builder.load(found), ir.Constant(ir.IntType(LANES), 0))


@compiled(*EXACT, "reassoc")
def above(values: Array, start: int, limits: Array, size: int) -> np.float32:
    """Return something above zero if one of `size` values from `start` on is above its limit."""
    zero, begin = np.float32(0), np.uint32(start)  # unsigned: it is no place counted from the end
    total = zero
    for j in range(size):
        total += max(zero, values[begin + j] - limits[j])
    return total


@compiled(*EXACT)
def scan(
    queries: Array, rows: Array, dims: int, total: int, barred: Array, found: Array, values: Array, a: int, b: int
) -> None:
    """Find the nearest for the queries `a` to `b` of `queries` (Q, d) by all products.

    Args: `rows` (P * d,) has `total` candidates, and zeros up to a multiple of ROWS; `barred` (Q, 2) candidates of the
    own image; `found` (Q, K) and `values` (Q, K) are written.
    """
    count = found.shape[1]
    size = rows.shape[0] * WIDTH // rows.shape[0]  # WIDTH, unknown to the compiler, which would unroll loops
    block, out = np.empty(dims * WIDTH, np.float32), np.empty(ROWS * WIDTH, np.float32)
    limits = np.empty(WIDTH, np.float32)
    best, place = np.empty((WIDTH, count), np.float32), np.empty((WIDTH, count), np.int64)
    for start in range(a, b, WIDTH):
        number = min(WIDTH, b - start)
        block[:], best[:] = 0, -INFINITY
        limits[:number], limits[number:] = -INFINITY, INFINITY  # where there is no query nothing is above its limit
        for j in range(number):
            for k in range(dims):
                block[k * WIDTH + j] = queries[start + j, k]
        for first in range(0, total, ROWS):
            if not multiply(block, rows, first * dims, dims, limits, out):  # type: ignore[call-arg]  # numba adds one
                continue
            for candidate in range(first, min(first + ROWS, total)):
                products = (candidate - first) * WIDTH
                if above(out, products, limits, size) > 0:
                    for j in range(number):
                        value, row = out[products + j], start + j
                        if value > limits[j] and not barred[row, 0] <= candidate < barred[row, 1]:
                            insert(value, candidate, best[j], place[j])
                            limits[j] = best[j, count - 1]
        for j in range(number):
            for s in range(count):
                found[start + j, s], values[start + j, s] = place[j, s], best[j, s]
