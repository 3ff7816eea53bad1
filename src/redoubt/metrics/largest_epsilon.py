"""The epsilon that suffices for every image: the largest of the smallest ones that a search found (PeerNets, 4.3.1).

For searches on pixels in [0, 1]: there 1 allows any image, so it stands for larger epsilons and for images on which the
search failed. The bootstrap's interval of a maximum reaches downwards only.
"""

from __future__ import annotations

from redoubt.lazily import np, pd

KIND = "mean"
UNIT = "plain"


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return rows["epsilon"].fillna(1.0).clip(upper=1.0)


def summary(values: np.ndarray) -> float:
    """Return the largest of the values."""
    return values.max()
