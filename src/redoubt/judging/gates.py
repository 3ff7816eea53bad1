"""Gates: what must hold of attacks on any model before its accuracy under them can be believed.

Two attacks are compared on the same images (and runs): red if more images are lost than found, by a one-sided exact
sign test at `ALPHA`. A share that must reach a level, and a gain that may not exceed a point, are red where the
binomial distribution at that level makes what is found as unlikely.

Source: Athalye, Carlini and Wagner (ICML 2018), section 3.1; Carlini et al. (2019), On Evaluating Adversarial
Robustness, section 4. Tests: McNemar (1947), one-sided and exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from redoubt.judging.intervals import Z, wilson
from redoubt.lazily import lazy, np, pd

stats = lazy("scipy.stats")

ALPHA = 0.001
POINT = 0.01
AGREES = 0.5  # of the larger of a slope and its difference: how far apart they may be

Colour = Literal["green", "red", "not-run"]


@dataclass(frozen=True)
class Gate:
    """One check of one model; numbers are None where it was not run.

    Attributes:
        gate: green, red or not-run.
        value: a difference of two shares of images, or a share.
        ci_low, ci_high: its 95 % interval.
        allowed: at least (a difference of attacks, a share) or at most (a gain) this.
        p: of what was found, if no more than that is true.
        n: images, each run counted.
        reason: why it was not run.
    """

    gate: Colour
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    allowed: float | None = None
    p: float | None = None
    n: int = 0
    reason: str | None = None


def not_run(reason: str) -> Gate:
    """Return a gate that was not run."""
    return Gate("not-run", reason=reason)


def at_least(stronger: np.ndarray, weaker: np.ndarray) -> Gate:
    """Return whether an attack finds at least what another does; both bool (n,), whether an image is fooled."""
    lost, found = int((weaker & ~stronger).sum()), int((stronger & ~weaker).sum())
    p = float(stats.binom.sf(lost - 1, lost + found, 0.5)) if lost else 1.0
    return _difference(stronger, weaker, 0.0, p)


def gains_little(stronger: np.ndarray, weaker: np.ndarray, most: float = POINT) -> Gate:
    """Return whether an attack finds at most a point more than another; both bool (n,)."""
    gain = int(stronger.sum()) - int(weaker.sum())
    p = float(stats.binom.sf(gain - 1, len(stronger), most)) if gain > 0 else 1.0
    return _difference(stronger, weaker, most, p)


def agree(one: np.ndarray, other: np.ndarray) -> Gate:
    """Return whether two counts of the same images differ by chance alone; both bool (n,)."""
    gates = [at_least(one, other), at_least(other, one)]
    worse = min(gates, key=lambda gate: gate.p or 0.0)
    return _difference(one, other, 0.0, min(1.0, 2.0 * (worse.p or 0.0)))


def reaches(values: np.ndarray, level: float) -> Gate:
    """Return whether the share of bool values (n,) is at least a level; not run without values."""
    if not len(values):
        return not_run("no image counts")
    count, n = int(values.sum()), len(values)
    p = float(stats.binom.cdf(count, n, level))
    return Gate(_colour(p), count / n, *wilson(count, n), level, p, n)


def _difference(one: np.ndarray, other: np.ndarray, allowed: float, p: float) -> Gate:
    moved = one.astype(np.float64) - other.astype(np.float64)
    value, n = float(moved.mean()), len(moved)
    half = Z[0.95] * math.sqrt(float(moved.var()) / n)
    return Gate(_colour(p), value, value - half, value + half, allowed, p, n)


def _colour(p: float) -> Colour:
    return "red" if p < ALPHA else "green"


def worst(gates: list[Gate]) -> Gate:
    """Return the gate of several that is least likely."""
    return min(gates, key=lambda gate: 1.0 if gate.p is None else gate.p)


# -- checks of one model ----------------------------------------------------------------------------------------------


def _wrong(rows: pd.DataFrame, name: str) -> np.ndarray:
    return rows[f"wrong_{name}"].to_numpy(dtype=bool)


def _compared(stronger: str, weaker: str) -> Callable[[pd.DataFrame], Gate]:
    return lambda rows: at_least(_wrong(rows, stronger), _wrong(rows, weaker))


def _grows(rows: pd.DataFrame) -> Gate:
    return worst([_compared("few", "half")(rows), _compared("double", "few")(rows)])


def _counted(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images that the model has right."""
    return rows[rows["clean_label"] == rows["label"]]


def _slopes_agree(rows: pd.DataFrame) -> Gate:
    own = _counted(rows)
    gradient, difference = own["gradient"].to_numpy(), own["difference"].to_numpy()
    far = AGREES * np.maximum(np.abs(gradient), np.abs(difference))
    return reaches(np.abs(gradient - difference) <= far, 0.9)


def _draws(rows: pd.DataFrame) -> Gate:
    if "wrong_draws" not in rows:
        return not_run("the model draws nothing")
    return gains_little(_wrong(rows, "draws"), _wrong(rows, "few"))


CHECKS: dict[str, Callable[[pd.DataFrame], Gate]] = {
    "more steps find no less": _compared("many", "few"),
    "without a bound all images are fooled": lambda rows: reaches(_wrong(rows, "unbounded"), 0.99),
    "several steps find no less than one": _compared("many", "single"),
    "the white box finds no less than the black box": _compared("restarts", "black"),
    "restarts find less than a point more": lambda rows: gains_little(_wrong(rows, "restarts"), _wrong(rows, "many")),
    "gradients are not zero": lambda rows: reaches((_counted(rows)["gradient"] > 0).to_numpy(), 0.99),
    "differences agree with gradients": _slopes_agree,
    "larger balls hold no less": _grows,
    "noise of that size finds no more": _compared("many", "noise"),
    "draws are enough": _draws,
}
"""Checks of the rows of the probe `gates`, by name."""
FINISHED = ("other attacks find no more", "clean accuracy is by the same rule")
"""Checks that need rows of other attacks too."""


def beside(rows: pd.DataFrame, others: list[pd.DataFrame]) -> dict[str, Gate]:
    """Return the checks `FINISHED`, given the probe's rows and those of other attacks within its ball.

    Images are those that all of them attack; of several repetitions the first counts.
    """
    found: dict[str, list[Gate]] = {name: [] for name in FINISHED}
    for other in others:
        other = other[other["repetition"] == 0] if "repetition" in other else other
        both = rows.merge(other, on=["seed", "index"], suffixes=("", "_other"))
        if both.empty:
            continue
        wrong = (both["adversarial_label_other"] != both["label"]).to_numpy()
        found[FINISHED[0]].append(at_least(_wrong(both, "restarts"), wrong))
        right = [(both[name] == both["label"]).to_numpy() for name in ("clean_label", "clean_label_other")]
        found[FINISHED[1]].append(agree(*right))
    return {name: worst(gates) if gates else not_run("no other attack is named") for name, gates in found.items()}
