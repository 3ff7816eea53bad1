"""Epsilons that were found by a search, searched again on other draws of the images.

Rows of such an attack keep for each image at which epsilons the search saw it misclassified, and which class the model
sees near the epsilon that is applied (`redoubt.attacks._searched`). A draw of images has another error rate, and
thereby another epsilon; a metric on it is that near this epsilon, by a straight line between two that were looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from redoubt.lazily import np, pd

COLUMNS = {"epsilon", "label", "adversarial_label", "searched", "searched_wrong", "search_share", "near", "near_label"}
SIZES = ("epsilon", "l2", "linf")
CLOSE = 0.2
"""Multiples of the applied epsilon this near to one tell the slope of the error rate."""


def crossing(grid: np.ndarray, rates: np.ndarray, share: float) -> np.ndarray:
    """Return the smallest epsilon (D,) at which error rates reach a share, by straight lines between grid points.

    Args:
        grid: epsilons (G,), ascending.
        rates: of errors (D, G) at each, for D draws.
        share: that is asked for; the ends of the grid where the rate is never below it, or never reaches it.
    """
    reached = rates >= share
    place = np.where(reached.any(axis=1), reached.argmax(axis=1), len(grid))
    after = np.clip(place, 1, len(grid) - 1)
    draws = np.arange(len(rates))
    low, high, below, above = grid[after - 1], grid[after], rates[draws, after - 1], rates[draws, after]
    between = (place > 0) & (place < len(grid))
    part = (high - low) * (share - below) / np.where(between, above - below, 1.0)
    return np.asarray(np.where(between, low + part, np.where(place == 0, grid[0], grid[-1])))


@dataclass(frozen=True)
class Search:
    """The search behind the rows of one run.

    Attributes:
        index: of the images (n,).
        grid: epsilons (G,) that were tried, ascending.
        wrong: whether an image was misclassified at each (n, G), float64.
        share: that was asked for.
        factors: multiples (K,) of the applied epsilon, ascending, that were looked at.
    """

    index: np.ndarray
    grid: np.ndarray
    wrong: np.ndarray
    share: float
    factors: np.ndarray

    def found(self, weights: np.ndarray) -> np.ndarray:
        """Return the epsilon (D,) of each of D draws in which images count by their weights (D, n)."""
        return crossing(self.grid, weights @ self.wrong / weights.sum(axis=1, keepdims=True), self.share)


def search_of(rows: pd.DataFrame) -> Search | None:
    """Return the search behind the rows of one run (an image once), or None.

    None too where the rows were scored by another model than the search, or by another draw of a random one: the class
    near an epsilon must be that of the row at the epsilon itself.
    """
    if not {*rows} >= COLUMNS or rows["near"].isna().any():
        return None
    grid, near = (np.asarray(rows[name].iloc[0], dtype=np.float64) for name in ("searched", "near"))
    own = int(np.argmin(np.abs(near - rows["epsilon"].iloc[0])))
    if (np.stack(rows["near_label"].to_numpy())[:, own] != rows["adversarial_label"].to_numpy()).any():
        return None
    wrong = np.stack(rows["searched_wrong"].to_numpy()).astype(np.float64)
    return Search(rows["index"].to_numpy(), grid, wrong, float(rows["search_share"].iloc[0]), near / near[own])


def with_search(rows: pd.DataFrame, values: np.ndarray) -> np.ndarray | None:
    """Return values (n,) with the mean of `values` whose variance also has that of the searched epsilon, or None.

    By the delta method: an image that is misclassified lowers the epsilon of its draw by the share that it adds to the
    error rate, over the slope of that rate; sizes are proportional to epsilon.

    Args:
        rows: of one run, an image once, with a search behind them.
        values: a size (n,) of each image, in the order of the rows.
    """
    search = search_of(rows)
    if search is None:
        return None
    close = np.abs(search.factors - 1.0) <= CLOSE
    labels = rows["label"].to_numpy()
    rates = (np.stack(rows["near_label"].to_numpy())[:, close] != labels[:, None]).mean(0)
    slope = float(np.polyfit(search.factors[close], rates, 1)[0])
    if slope <= 0.0:
        return None
    wrong = (rows["adversarial_label"].to_numpy() != labels).astype(np.float64)
    return np.asarray(values - values.mean() * (wrong - wrong.mean()) / slope)


def moved(rows: pd.DataFrame, place: int, factor: float) -> pd.DataFrame:
    """Return the rows as they would be at another epsilon near their own.

    Args:
        rows: of one run.
        place: of that epsilon among those that were looked at.
        factor: that epsilon over the applied one. Sizes are taken as proportional to it, as they are without bounds.
    """
    seen = np.stack(rows["near_label"].to_numpy())[:, place]
    return rows.assign(adversarial_label=seen, **{name: factor * rows[name] for name in SIZES if name in rows})
