"""Exact nearest neighbours by inner product on a GPU, in one Triton kernel: products are never written to memory.

A program of the kernel has some queries and goes through the candidates, tile by tile. It keeps the K best of each
query so far; of a tile, only products above the least of them are looked at again. Where there are too few queries for
the whole GPU, candidates are cut into shares, whose K best are then compared.

Rounding. Tensor cores multiply in TF32, with 11 bits. So every float32 number is split in two, and three of the four
products of the parts are summed in float32 (`tf32x3` of Triton). Let u = 2^-24. Rounded to TF32 a number differs by at
most 2^-11 of it; what is left after the second part is at most 2^-22 of it, 4 u. The fourth product is left out: with
what is left on both sides that is 12 u of a term. The 3 d terms are added one after the other, and tensor cores may cut
a sum off where others round it: 2 u each. So to first order a product is within (6 d + 12) u |p| |y| of what is true:
`tolerance`. Products that are not finite come behind all others.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from redoubt.lazily import lazy

if TYPE_CHECKING:
    from redoubt.networks import _triton as kernels
else:
    kernels = lazy("redoubt.networks._triton")

MOST_FEATURES = 128
MOST_NEIGHBOURS = 64
CHUNK = 16  # features that are multiplied at once
WAVES = 2  # programs for each multiprocessor, where there are enough candidates
ROUNDING = 2.0**-24


class Tile(NamedTuple):
    """How the kernel cuts its work."""

    rows: int = 64  # queries of a program
    columns: int = 128  # candidates whose products it holds at once
    warps: int = 4
    precision: str = "tf32x3"


def tolerance(features: int) -> float:
    """Return by how much a computed inner product of rows (d,) of length one may differ."""
    return (6 * _padded(features) + 12) * ROUNDING


def _padded(features: int) -> int:
    return -(-features // CHUNK) * CHUNK


def takes(queries: torch.Tensor, candidates: torch.Tensor, count: int) -> bool:
    """Return whether the kernel can search candidates (P, d) for the `count` nearest of queries (Q, d)."""
    if queries.device.type != "cuda" or {queries.dtype, candidates.dtype} != {torch.float32}:
        return False
    return fits(queries.shape[0], candidates.shape[0], candidates.shape[1], count) and available(queries.device)


def fits(queries: int, candidates: int, features: int, count: int) -> bool:
    """Return whether the kernel is written for Q queries, P candidates, d features and K neighbours."""
    rows = max(queries, candidates) * max(_padded(features), count)  # offsets in it have 32 bits
    return 0 < features <= MOST_FEATURES and 0 < count <= MOST_NEIGHBOURS and rows < 2**31


@cache
def available(device: torch.device) -> bool:
    """Return whether Triton is there, and its compiler works and keeps the tolerance: tried once, on a few rows."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    rows = torch.nn.functional.normalize(torch.arange(64.0, device=device).sin().view(4, 16))
    exact = rows.double() @ rows.double().T
    try:
        found, values = nearest(rows, rows, 4)
        reached = exact.gather(1, found)
        errors = torch.stack([reached - values, reached - exact.sort(descending=True).values])
        return float(errors.abs().max()) <= tolerance(16)
    except Exception as error:  # a compiler, its driver and its linker fail in many ways
        warnings.warn(f"peer layers search without Triton, which does not work here: {error}", stacklevel=2)
        return False


def nearest(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    count: int,
    own: tuple[Sequence[int], Sequence[int]] | None = None,
    shares: int | None = None,
    tile: Tile | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nearest (Q, count), best first, and their inner products; arguments as of `_nearest.nearest`.

    Args:
        queries: (Q, d).
        candidates: (P, d).
        count: K; every query must have as many candidates.
        own: where images begin and end.
        shares: pieces that candidates are cut into; by the size of the GPU when None.
        tile: how the work is cut; by the number of queries when None.
    """
    asked, known = _rows(queries), _rows(candidates)
    tile = tile or Tile()
    blocks, columns = -(-len(asked) // tile.rows), -(-len(known) // tile.columns)
    shares = min(columns, shares or _shares(blocks, columns, queries.device))
    share = -(-columns // shares) * tile.columns
    found = torch.empty(len(asked), shares, count, dtype=torch.int32, device=queries.device)
    values = torch.empty(found.shape, device=queries.device)
    barred = _barred(tuple(map(tuple, own or ((0, len(asked)), (0, 0)))), queries.device)
    if len(asked):
        with torch.cuda.device(queries.device if queries.is_cuda else -1):
            kernels.search[(blocks, shares)](
                asked,
                known,
                barred,
                found,
                values,
                len(asked),
                len(known),
                share,
                COUNT=count,
                SLOTS=max(16, 1 << (count - 1).bit_length()),
                FEATURES=asked.shape[1],
                CHUNK=CHUNK,
                ROWS=tile.rows,
                COLUMNS=tile.columns,
                PRECISION=tile.precision,
                num_warps=tile.warps,
                enable_fp_fusion=True,
            )
    if shares == 1:
        return found[:, 0].long(), values[:, 0]
    best = values.flatten(1).topk(count, 1)
    return found.flatten(1).gather(1, best.indices).long(), best.values


def _rows(rows: torch.Tensor) -> torch.Tensor:
    """Return rows (N, d) as the kernel reads them, with zeros up to whole chunks."""
    features = rows.shape[1]
    return torch.nn.functional.pad(rows.detach(), (0, _padded(features) - features)).contiguous()


def _shares(blocks: int, columns: int, device: torch.device) -> int:
    """Return into how many shares candidates are cut: none is shorter than four tiles."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(columns // 4, WAVES * processors // max(1, blocks)))


@lru_cache(maxsize=64)
def _barred(own: tuple[tuple[int, ...], tuple[int, ...]], device: torch.device) -> torch.Tensor:
    """Return the candidates (Q, 2) that each query may not have, from the first to before the last.

    Kept: the batches of a training have the same, and to send it to a GPU is to wait for it.
    """
    spans = [
        torch.tensor(span, dtype=torch.int32).expand(b - a, 2)
        for (a, b), span in zip(*map(itertools.pairwise, own), strict=True)
    ]
    return torch.cat(spans).to(device) if spans else torch.zeros(0, 2, dtype=torch.int32, device=device)
