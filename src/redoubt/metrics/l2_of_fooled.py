"""Mean l2 norm of the perturbations that changed a prediction, on the 0-255 scale (PeerNets, table 2).

For attacks on pixels, whose norms are those of images in [0, 1].
"""

from __future__ import annotations

from redoubt.lazily import pd

KIND = "mean"
UNIT = "plain"
EMPTY = "no image was fooled"


def applies(rows: pd.DataFrame) -> pd.Series:
    """Tell of each image whether its prediction changed."""
    return rows["adversarial_label"] != rows["clean_label"]


def values(rows: pd.DataFrame) -> pd.Series:
    """Return one number per image."""
    return 255.0 * rows["l2"]
