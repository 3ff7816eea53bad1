"""What rows keep of a search for epsilon, so that it can be repeated on other draws of the images.

An epsilon at which a share of the images is misclassified depends on the images. Its error is that of the share over
the slope of the error rate, and is found by searching again in every resample (`redoubt.judging.search`), which needs
for each image at which epsilons it is misclassified.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redoubt.lazily import np, pd, torch

if TYPE_CHECKING:
    from redoubt.attacks.interface import Batches

Columns = dict[str, "float | np.ndarray"]
"""Columns of rows: a number that all images have, or an array whose first axis is the images'."""

NEAR = (0.6, 0.85, 0.97, 1.0, 1.03, 1.15, 1.6)
"""Multiples of a searched epsilon at which images are looked at, so that it may be somewhat larger or smaller."""
SEARCH = ("searched", "searched_wrong", "search_share")
"""Columns of the search: the epsilons that were tried, ascending, whether the image is misclassified at each, and the
share that is asked for."""


class Seen:
    """The classes that a network sees at each epsilon that has been tried.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        batches: of inputs and labels.
        move: first place of a batch, its inputs, its labels and an epsilon to the examples (B, ...).
    """

    def __init__(self, network: Callable, batches: Batches, move: Callable) -> None:
        self.network, self.batches, self.move = network, batches, move
        self.labels = batches.labels.cpu().numpy()
        self._classes: dict[float, np.ndarray] = {}

    def classes(self, epsilon: float) -> np.ndarray:
        """Return the class (N,) that the network sees in each example at an epsilon."""
        if epsilon not in self._classes:
            with torch.no_grad():
                found = [self.network(self.move(*batch, epsilon)).argmax(1).cpu() for batch in self.batches]
            self._classes[epsilon] = torch.cat(found).numpy()
        return self._classes[epsilon]

    def wrong(self, epsilon: float) -> int:
        """Return how many examples are misclassified at an epsilon."""
        return int((self.classes(epsilon) != self.labels).sum())

    def near(self, epsilon: float) -> Columns:
        """Return the columns `near` (N, 7), epsilons, and `near_label` (N, 7), the class that is seen at each."""
        grid = [factor * epsilon for factor in NEAR]
        seen = np.stack([self.classes(each) for each in grid], axis=1)
        return {"near": np.tile(grid, (len(seen), 1)), "near_label": seen}

    def search(self, share: float) -> Columns:
        """Return the columns of a search (see `SEARCH`) for the epsilon at which a share is misclassified."""
        grid = sorted(self._classes)
        wrong = np.stack([self._classes[each] != self.labels for each in grid], axis=1)
        return {"searched": np.tile(grid, (len(wrong), 1)), "searched_wrong": wrong, "search_share": share}


def search_of(rows: pd.DataFrame, places: np.ndarray) -> Columns:
    """Return the columns of the search in other rows, for the images at some places (N,) of their split.

    Nothing where the rows have none, or lack one of the images.
    """
    if not {"index", *SEARCH} <= {*rows} or not set(places.tolist()) <= set(rows["index"]):
        return {}
    found = rows.drop_duplicates("index").set_index("index").loc[places]
    columns: Columns = {name: np.stack(found[name].to_numpy()) for name in SEARCH[:2]}
    return columns | {"search_share": float(found["search_share"].iloc[0])}


def part(columns: Columns, own: slice) -> dict[str, Any]:
    """Return the columns of the images of one batch, as facts of `Crafted`."""
    return {name: value if isinstance(value, float) else list(value[own]) for name, value in columns.items()}
