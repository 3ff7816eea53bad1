"""Rows that make a search for the nearest hard, images of unequal size, and what is true: shared by its tests."""

import itertools
import math

import torch


def generator(seed):
    return torch.Generator().manual_seed(seed)


def rows_of(kind, count, features, seed):
    """Rows of about length one (or zero) that make a search hard in one way."""
    draw = generator(seed)
    rows = torch.randn(count, features, generator=draw)
    if kind == "few":  # equal rows
        rows = rows[torch.randint(3, (count,), generator=draw) % len(rows)]
    if kind == "collinear":  # one direction at many lengths: equal but for rounding
        rows = rows[:1] * torch.rand(count, 1, generator=draw).add(0.01) * torch.randn(count, 1, generator=draw).sign()
    if kind == "close":  # similarities differ by a few units in the last place
        rows = rows[:1] + 2e-4 * rows
    if kind == "clusters":
        rows = rows[torch.randint(5, (count,), generator=draw) % len(rows)] + 0.05 * rows
    rows = torch.nn.functional.normalize(rows, dim=1)
    if kind == "zeros":
        rows[torch.rand(count, generator=draw) < 0.6] = 0.0
    if kind == "lengths":
        rows *= 3 * torch.rand(count, 1, generator=draw) ** 6
    return rows


KINDS = ("random", "few", "collinear", "close", "clusters", "zeros", "lengths")


def cuts(total, images, draw):
    """Where `images` images of unequal size begin among `total` rows, and the end."""
    return [0, *torch.randint(total + 1, (images - 1,), generator=draw).sort().values.tolist(), total]


def searched(kind, candidates, queries, features, images, seed):
    """Queries, half of them candidates, the candidates, and where images begin among both; None of one image."""
    right = rows_of(kind, candidates, features, seed)
    left = torch.cat([right[: queries // 2], rows_of(kind, queries, features, seed)])[:queries]
    own = None if images == 1 else tuple(cuts(total, images, generator(seed)) for total in (len(left), candidates))
    return left, right, own


def assert_nearest(index, left, right, own, count, tolerance):
    """What an index of `right` finds for `left`, and its values, are right within a tolerance; no row comes twice."""
    exact = left.double() @ right.double().T
    for a, b, c, d in [] if own is None else [(*span, *rows) for span, rows in zip(*map(itertools.pairwise, own))]:  # noqa: B905
        exact[a:b, c:d] = -math.inf
    count = min(count, int((exact > -math.inf).sum(1).min()))
    if count == 0:
        return
    found, values = index.nearest(left, count, own)
    assert all(len(set(row)) == count for row in found.tolist())
    scale = (left.double().square().sum(1, keepdim=True) + right.double().square().sum(1).max()) / 2
    reached = exact.gather(1, found)
    assert ((reached - values).abs() <= tolerance * scale).all()  # what is computed is near what is true
    assert ((reached - exact.topk(count, 1).values).abs() <= 2 * tolerance * scale).all()
    assert (values.diff(dim=1) <= 0).all()
