"""Gates: what must hold of attacks on any model before its accuracy under them can be believed.

Two attacks are compared on the same images (and runs): red if more images are lost than found, by a one-sided exact
sign test at `ALPHA`. A share that must reach a level, and a gain that may not exceed a point, are red where the
binomial distribution at that level makes what is found as unlikely.

Source: Athalye, Carlini and Wagner (ICML 2018), section 3.1; Carlini et al. (2019), On Evaluating Adversarial
Robustness, section 4. Tests: McNemar (1947), one-sided and exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from redoubt.judging.intervals import Z, wilson
from redoubt.lazily import np, pd
from redoubt.records import Strict
from redoubt.rows import CRAFTED_ON

ALPHA = 0.001
POINT = 0.01
AGREES = 0.5  # of the larger of a slope and its difference: how far apart they may be

Colour = Literal["green", "red", "not-run"]


class Gate(Strict):
    """One check of one model; numbers are null where it was not run."""

    gate: Colour
    value: float | None = Field(None, description="a difference of two shares of images, or a share")
    ci_low: float | None = Field(None, description="its 95 % interval")
    ci_high: float | None = None
    allowed: float | None = Field(None, description="at least (a difference of attacks, a share) or at most (a gain)")
    p: float | None = Field(None, description="of what was found, if no more than that is true")
    n: int = Field(0, description="images, each run counted")
    reason: str | None = Field(None, description="why it was not run")

    def numbers(self) -> tuple[str, str, str]:
        """Return what is found with its interval, what is allowed, and of how many images; the reason where not run."""
        if self.value is None or self.allowed is None:
            return self.reason or "", "", ""
        interval = f"{100 * (self.ci_low or 0.0):.1f} – {100 * (self.ci_high or 0.0):.1f}"
        return f"{100 * self.value:.1f} % ({interval})", f"{100 * self.allowed:g} %", str(self.n)


def not_run(reason: str) -> Gate:
    """Return a gate that was not run."""
    return Gate(gate="not-run", reason=reason)


def at_least(stronger: np.ndarray, weaker: np.ndarray) -> Gate:
    """Return whether an attack finds at least what another does; both bool (n,), whether an image is fooled."""
    lost, found = int((weaker & ~stronger).sum()), int((stronger & ~weaker).sum())
    p = _at_most(found, lost + found, 0.5) if lost else 1.0
    return _difference(stronger, weaker, 0.0, p)


def gains_little(stronger: np.ndarray, weaker: np.ndarray, most: float = POINT) -> Gate:
    """Return whether an attack finds at most a point more than another; both bool (n,)."""
    gain = int(stronger.sum()) - int(weaker.sum())
    p = _at_most(len(stronger) - gain, len(stronger), 1.0 - most) if gain > 0 else 1.0
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
    p = _at_most(count, n, level)
    return _share(_colour(p), count, n, level, p)


def exceeds(values: np.ndarray, level: float) -> Gate:
    """Return whether the share of bool values (n,) is above a level, with its whole interval."""
    count, n = int(values.sum()), len(values)
    colour: Colour = "green" if wilson(count, n)[0] > level else "red"
    return _share(colour, count, n, level, _at_most(n - count, n, 1.0 - level))


def _at_most(count: int, n: int, share: float) -> float:
    """Return how likely it is that at most `count` of `n` independent events of a probability in (0, 1) occur."""
    places = np.arange(count + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log(n - places[:-1]) - np.log(places[1:]))])
    return min(1.0, float(np.exp(ways + places * math.log(share) + (n - places) * math.log1p(-share)).sum()))


def _difference(one: np.ndarray, other: np.ndarray, allowed: float, p: float) -> Gate:
    moved = one.astype(np.float64) - other.astype(np.float64)
    value, n = float(moved.mean()), len(moved)
    half = Z[0.95] * math.sqrt(float(moved.var()) / n)
    interval = {"ci_low": value - half, "ci_high": value + half}
    return Gate(gate=_colour(p), value=value, **interval, allowed=allowed, p=p, n=n)


def _share(colour: Colour, count: float, n: int, level: float, p: float) -> Gate:
    low, high = wilson(count, n)
    return Gate(gate=colour, value=count / n, ci_low=low, ci_high=high, allowed=level, p=p, n=n)


def _colour(p: float) -> Colour:
    return "red" if p < ALPHA else "green"


def worst(gates: list[Gate]) -> Gate:
    """Return the gate of several that is least likely."""
    return min(gates, key=lambda gate: 1.0 if gate.p is None else gate.p)


# -- checks of one model ----------------------------------------------------------------------------------------------

Others = Sequence["pd.DataFrame"]
Judge = Callable[["pd.DataFrame", Others], Gate]


@dataclass(frozen=True)
class Check:
    """How a check is judged, from the rows of the probe `gates` and those of other attacks, and what red means."""

    judge: Judge
    meaning: str


def _wrong(rows: pd.DataFrame, name: str) -> np.ndarray:
    return rows[f"wrong_{name}"].to_numpy(dtype=bool)


def _compared(stronger: str, weaker: str) -> Judge:
    return lambda rows, _: at_least(_wrong(rows, stronger), _wrong(rows, weaker))


def _grows(rows: pd.DataFrame, others: Others) -> Gate:
    return worst([_compared("few", "half")(rows, others), _compared("double", "few")(rows, others)])


def _right(rows: pd.DataFrame, end: str = "") -> np.ndarray:
    return (rows[f"clean_label{end}"] == rows["label"]).to_numpy()


def _known(rows: pd.DataFrame, _: Others) -> Gate:
    return exceeds(_right(rows), 1.0 / max(2, rows["label"].nunique()))


def _finite(rows: pd.DataFrame, _: Others) -> Gate:
    moved = float(rows["moved"].sum())
    return _share("red" if moved else "green", moved, len(rows), 0.0, float(moved == 0.0))


def _slopes_agree(rows: pd.DataFrame, _: Others) -> Gate:
    own = rows[_right(rows)]
    gradient, difference = own["gradient"].to_numpy(), own["difference"].to_numpy()
    far = AGREES * np.maximum(np.abs(gradient), np.abs(difference))
    return reaches(np.abs(gradient - difference) <= far, 0.9)


def _draws(rows: pd.DataFrame, _: Others) -> Gate:
    if "wrong_draws" not in rows:
        return not_run("the model draws nothing")
    return gains_little(_wrong(rows, "draws"), _wrong(rows, "few"))


def _white(rows: pd.DataFrame) -> np.ndarray:
    """Return which images the strongest white box fools: that of the probe, and what `evaluate` tries beside it."""
    return _wrong(rows, "white" if "wrong_white" in rows else "restarts")


def _beside(judge: Callable[[pd.DataFrame], Gate], transferred: bool | None) -> Judge:
    """Return a check of all other attacks, or of those alone whose examples were made on another model, or were not.

    Images are those that both attack; of several repetitions the first counts.
    """

    def judged(rows: pd.DataFrame, others: Others) -> Gate:
        found = []
        for other in others:
            if transferred is not None and (CRAFTED_ON in other.attrs) is not transferred:
                continue
            other = other[other["repetition"] == 0] if "repetition" in other else other
            both = rows.merge(other, on=["seed", "index"], suffixes=("", "_other"))
            found += [] if both.empty else [judge(both)]
        return worst(found) if found else not_run("no such attack is named")

    return judged


def _no_more(rows: pd.DataFrame) -> Gate:
    return at_least(_white(rows), (rows["adversarial_label_other"] != rows["label"]).to_numpy())


CHECKS: dict[str, Check] = {
    "images are known before any attack": Check(
        _known, "the model guesses; look at the order of classes, and whether images are normalised twice"
    ),
    "gradients are finite": Check(_finite, "they were taken beside the point; look for a root or a logarithm of zero"),
    "gradients are not zero": Check(
        lambda rows, _: reaches((rows[_right(rows)]["gradient"] > 0).to_numpy(), 0.99),
        "attacks that follow gradients find nothing there; attack a model without what blocks them",
    ),
    "differences agree with gradients": Check(_slopes_agree, "gradients do not say where the loss rises"),
    "more steps find no less": Check(_compared("many", "few"), "steps lead astray"),
    "several steps find no less than one": Check(_compared("many", "single"), "steps lead astray"),
    "without a bound all images are fooled": Check(
        lambda rows, _: reaches(_wrong(rows, "unbounded"), 0.99),
        "the attack fails for a reason that is not robustness",
    ),
    "larger balls hold no less": Check(_grows, "the attack fails for a reason that is not robustness"),
    "restarts find less than a point more": Check(
        lambda rows, _: gains_little(_wrong(rows, "restarts"), _wrong(rows, "many")), "attacks end in poor places"
    ),
    "the white box finds no less than the black box": Check(
        lambda rows, _: at_least(_white(rows), _wrong(rows, "black")),
        "gradients point nowhere useful, so attacks that follow them say little",
    ),
    "noise of that size finds no more": Check(
        lambda rows, _: at_least(_white(rows), _wrong(rows, "noise")), "gradients point nowhere useful"
    ),
    "draws are enough": Check(_draws, "attacks average too few draws"),
    "transfer finds no more": Check(_beside(_no_more, True), "gradients are masked; attack what masks them"),
    "other attacks find no more": Check(_beside(_no_more, False), "attacks of the probe are too weak for this model"),
    "clean accuracy is by the same rule": Check(
        _beside(lambda both: agree(_right(both), _right(both, "_other")), None),
        "numbers of two rules were set beside each other",
    ),
}
"""All checks of a model, by name."""


def judged(rows: pd.DataFrame, others: Others = ()) -> dict[str, Gate]:
    """Return the gates of a model.

    Args:
        rows: of the probe `gates`; also `wrong_white` where stronger white boxes than the probe's were tried.
        others: rows of other attacks within its ball, one value of a sweep each.
    """
    return {name: check.judge(rows, others) for name, check in CHECKS.items()}


def line(name: str, gate: Gate) -> str:
    """Return a gate as one line, with what it means where it is red."""
    found, allowed, n = gate.numbers()
    numbers = f"{found}, allowed {allowed}, {n} images" if allowed else found
    return f"{gate.gate:<7}  {name}: {numbers}" + (f"; {CHECKS[name].meaning}" if gate.gate == "red" else "")
