"""Rows that make a search for the nearest hard, and images of unequal size: what its tests have in common."""

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
