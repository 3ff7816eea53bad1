"""The adaptive number of a cell: the same metric over the worst of several strong attacks, and what it tells.

`optimality` is how much of what was achievable the paper's own attack found, on the images that both attacked and that
were right before. With norms it is AttackBench's local optimality (Cinà et al., AAAI 2025): the area
between the share of images that are right and the curve of those that stay right, as the size grows to the one at which
none is left, as a share of that of the worst of all. Where all images have one size (rho_inf) it is the quotient of the
sizes; at a fixed epsilon it is the share of images that the attack fooled over that of the worst of all.
"""

from __future__ import annotations

from redoubt.errors import RedoubtError
from redoubt.judging.cells import Adaptive, measured
from redoubt.lazily import np, pd
from redoubt.metrics.interface import read
from redoubt.rows import DECIDED_BY

ALIKE = ("seed", "index")


def adaptive(metric: str, own: pd.DataFrame | None, worst: pd.DataFrame, attack: str) -> Adaptive:
    """Return what the worst of several attacks says of a cell.

    Args:
        metric: its spelling.
        own: rows of the paper's attack, None where there are none.
        worst: rows of the worst of several, with `decided_by`.
        attack: id of the paper's attack.
    """
    if (reason := withstood(metric, worst)) is not None:
        return Adaptive(adaptive_reason=reason)
    found = measured(metric, worst, None)
    if found.reproduced is None:
        return Adaptive(adaptive_reason=found.reason)
    return Adaptive(
        adaptive=found.reproduced,
        adaptive_low=found.ci_low,
        adaptive_high=found.ci_high,
        adaptive_n=found.n,
        adaptive_by=decided_by(worst, attack),
        queries=float(worst["queries"].mean()) if "queries" in worst else None,
        optimality=None if own is None else optimality(metric, own, worst),
    )


def withstood(metric: str, worst: pd.DataFrame) -> str | None:
    """Return why a norm over all images is not known: some that were right withstood every attack; else None."""
    order = getattr(chosen := read(metric), "order", None)
    if order is None:
        return None
    counted = worst[chosen.applies(worst)]
    right = counted["clean_label"] == counted["label"]
    unknown = right & counted[DECIDED_BY].isna()
    if one_size(counted, order):
        unknown = ~np.isfinite(counted[order])
    if not unknown.any():
        return None
    return f"{int(unknown.sum())} of {len(counted)} images withstood every attack, so that their norm is not known"


def one_size(rows: pd.DataFrame, norm: str) -> bool:
    """Return whether all images of each run have one size, as under `level` of worst-of."""
    sizes = rows.groupby("seed")[norm].nunique() if "seed" in rows else rows[[norm]].nunique()
    return bool((sizes == 1).all()) and len(rows) > len(sizes)


def decided_by(worst: pd.DataFrame, attack: str) -> str | None:
    """Return the attack that decided most of the images which the paper's own did not; its own where it decided all."""
    counts = worst[DECIDED_BY].value_counts()
    others = counts.drop(index=attack, errors="ignore")
    named = others if len(others) else counts
    return str(named.index[0]) if len(named) else None


def optimality(metric: str, own: pd.DataFrame, worst: pd.DataFrame) -> float | None:
    """Return how much of the achievable the paper's attack found; None where nothing was, or no image is common.

    Raises:
        RedoubtError: an attack has several rows for an image, apart from repetitions.
    """
    order = getattr(read(metric), "order", None)
    mine, best = (_by_image(rows, order) for rows in (own, worst))
    both = mine.add_suffix("_own").join(best, how="inner")
    both = both[(both["right_own"] > 0.5) & (both["right"] > 0.5)]
    if not len(both):
        return None
    if order is None:
        fooled = both["fooled"].mean()
        return float(both["fooled_own"].mean() / fooled) if fooled > 0 else None
    if one_size(worst, order):
        sizes = float(both["size_own"].mean())
        return float(both["size"].mean()) / sizes if np.isfinite(sizes) and sizes > 0 else None
    smallest, theirs = (both[name].where(both[f"fooled{end}"] >= 0.5, np.inf) for name, end in _SIZES)
    return area_share(theirs.to_numpy(), smallest.to_numpy())


def area_share(sizes: np.ndarray, smallest: np.ndarray) -> float | None:
    """Return AttackBench's local optimality of an attack, at most 1; None where no attack found anything.

    (rho e0 - A) / (rho e0 - A*): rho is the share of images that are right, A the area under the curve of those that
    stay right over the size, A* that of the best of all attacks for each image, and e0 the size at which it ends.

    Args:
        sizes: (N,) norms of what the attack found for images that were right, infinite where it found nothing.
        smallest: (N,) the smallest that any attack found, at most `sizes`.

    Source: Cinà et al. (AAAI 2025, AttackBench), local optimality.
    """
    found = smallest[np.isfinite(smallest)]
    areas = [float(np.clip(found.max(initial=0.0) - each, 0.0, None).mean()) for each in (sizes, smallest)]
    return areas[0] / areas[1] if areas[1] > 0 else None


_SIZES = (("size", ""), ("size_own", "_own"))


def _by_image(rows: pd.DataFrame, order: str | None) -> pd.DataFrame:
    """Return for each image and run the shares of repetitions in which it is right before and fooled, and its norm."""
    rows = rows if "seed" in rows else rows.assign(seed=0)
    if rows.duplicated([name for name in (*ALIKE, "repetition") if name in rows]).any():
        raise RedoubtError("optimality: an image has several rows; choose one value of the sweep")
    right = (rows["clean_label"] == rows["label"]).astype(float)
    fooled = (rows["adversarial_label"] != rows["clean_label"]).astype(float)
    size = rows[order].astype(float) if order else 0.0
    facts = rows[[*ALIKE]].assign(right=right, fooled=fooled, size=size)
    return facts.groupby([*ALIKE]).mean()
