"""Claims of a paper, decided by tests over the numbers of its artifacts.

A check holds when its effect has the claimed sign and differs from zero at level `LEVEL`, p being adjusted by Holm's
method for the checks of the claim on one dataset; it fails when the effect has the other sign, as surely; else it is
undecided. A number whose sampling error is not known is compared as it stands, and the check says so; beside checks
that are tested it cannot make a claim fail.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from redoubt.judging.contrast import Contrast, against, contrast, holm, plain, spearman
from redoubt.judging.evidence import Evidence, NoNumber, Sample
from redoubt.study.claims import Comparison, Decidable, Either, Trend

LEVEL = 0.05
Verdict = Literal["holds", "fails", "undecided", "not-run", "not-comparable"]
ORDER: tuple[Verdict, ...] = ("fails", "not-run", "undecided", "holds")
SAID: dict[Verdict, str] = {
    "holds": "holds",
    "fails": "fails",
    "undecided": "undecided",
    "not-run": "not run",
}
WORDS: dict[Verdict, str] = {
    "holds": "hold",
    "fails": "fail",
    "undecided": "undecided",
    "not-run": "not run",
}
ALL = "all"


@dataclass(frozen=True)
class Outcome:
    """One check.

    Attributes:
        dataset: what tables call it.
        text: the check.
        numbers: what was compared, in words.
        effect: positive where the left side is larger; a trend's rank correlation.
        p: two-sided, None where no sampling error is known or nothing was tested.
        adjusted: p after Holm's correction.
        n: images, or points of a trend.
        runs: runs of the side that has fewer.
        test: its name; the reason where it was not run.
        agrees: whether the effect is as claimed.
        apart: why it says nothing about the paper's numbers, or None.
        outcome: verdict on the check.
    """

    dataset: str
    text: str
    numbers: str = ""
    effect: float | None = None
    p: float | None = None
    adjusted: float | None = None
    n: int = 0
    runs: int = 0
    test: str = ""
    agrees: bool = False
    apart: str | None = None
    outcome: Verdict = "not-run"


@dataclass(frozen=True)
class Decision:
    """What the checks of a claim say on one dataset, or on `all`.

    Attributes:
        dataset: what tables call it.
        verdict: on the paper's claim: `not-comparable` where our numbers may not be held against the paper's.
        here: what our numbers say as they stand.
        outcomes: of the checks.
        summary: in words.
    """

    dataset: str
    verdict: Verdict
    here: Verdict
    outcomes: tuple[Outcome, ...]
    summary: str


def decide(checks: Sequence[Decidable], evidence: Evidence, left_open: str | None = None) -> list[Decision]:
    """Return what the checks of a claim say on each dataset, and last on `all` of them.

    Args:
        checks: of the claim.
        evidence: where its numbers come from.
        left_open: what the checks leave open, so that they cannot make it hold.
    """
    outcomes = [_outcome(check, evidence) for check in checks]
    parts = []
    for dataset in dict.fromkeys(check.dataset for check in checks):
        own = _corrected([outcome for outcome in outcomes if outcome.dataset == dataset])
        here = _worst(_counted(own))
        parts.append(_decision(dataset, own, "undecided" if left_open and here == "holds" else here, left_open))
    together = [outcome for part in parts for outcome in part.outcomes]
    total = _decision(ALL, together, _worst(part.here for part in parts), left_open)
    summary = "; open: ".join(filter(None, [_summary(parts), left_open]))
    return [*parts, dataclasses.replace(total, summary=summary)]


def _decision(dataset: str, outcomes: list[Outcome], here: Verdict, left_open: str | None) -> Decision:
    run = [outcome for outcome in outcomes if outcome.outcome != "not-run"]
    apart = any(outcome.apart is not None for outcome in run)
    counts = Counter(outcome.outcome for outcome in outcomes)
    text = ", ".join(f"{counts[verdict]} {WORDS[verdict]}" for verdict in WORDS if counts[verdict])
    bare = sum(outcome.p is None for outcome in run)
    text += f"; {'all' if bare == len(run) else bare} without a known sampling error" if bare else ""
    text += f"; open: {left_open}" if left_open else ""
    return Decision(dataset, "not-comparable" if apart else here, here, tuple(outcomes), text)


def _counted(outcomes: list[Outcome]) -> list[Verdict]:
    """Return what checks count for: a number without a known error that denies, beside tests, is undecided."""
    tested = any(outcome.p is not None for outcome in outcomes)
    return [
        "undecided" if tested and outcome.outcome == "fails" and outcome.p is None else outcome.outcome
        for outcome in outcomes
    ]


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    return next(verdict for verdict in ORDER if verdict in found)


def _summary(parts: Sequence[Decision]) -> str:
    """Return for each verdict on which datasets it was reached, such as `holds on MNIST (12 of 12 checks)`."""
    texts = []
    for verdict, word in SAID.items():
        places = [_place(part) for part in parts if part.here == verdict]
        texts += [f"{word} on {', '.join(places)}"] if places else []
    return ", ".join(texts)


def _place(part: Decision) -> str:
    if part.here == "not-run":
        return part.dataset
    agreeing = sum(outcome.outcome == part.here for outcome in part.outcomes)
    run = [outcome for outcome in part.outcomes if outcome.outcome != "not-run"]
    bare = "" if any(outcome.p is not None for outcome in run) else ", no sampling error known"
    return f"{part.dataset} ({agreeing} of {len(part.outcomes)} checks{bare})"


# -- one check --------------------------------------------------------------------------------------------------------


def _corrected(outcomes: list[Outcome]) -> list[Outcome]:
    """Return the outcomes of one family, each with its adjusted p and its verdict."""
    tested = [outcome.p for outcome in outcomes if outcome.p is not None]
    adjusted = iter(holm(tested))
    result = []
    for outcome in outcomes:
        if outcome.p is not None:
            outcome = dataclasses.replace(outcome, adjusted=next(adjusted))
        result.append(dataclasses.replace(outcome, outcome=_verdict(outcome)))
    return result


def _verdict(outcome: Outcome) -> Verdict:
    if outcome.effect is None:
        return "not-run"
    if outcome.adjusted is not None and outcome.adjusted > LEVEL:
        return "undecided"
    return "holds" if outcome.agrees else "fails"


def _outcome(check: Decidable, evidence: Evidence) -> Outcome:
    try:
        if isinstance(check, Either):
            return _either(check, [_compared(part, evidence) for part in check.parts])
        return _trend(check, evidence) if isinstance(check, Trend) else _compared(check, evidence)
    except NoNumber as reason:
        return Outcome(check.dataset, check.text, test=str(reason))


def _either(check: Either, outcomes: list[Outcome]) -> Outcome:
    """Return the outcome that decides: the surest that agrees, p times their number; else the least sure of all."""
    agreeing = [outcome for outcome in outcomes if outcome.agrees]
    if not agreeing:
        return dataclasses.replace(max(outcomes, key=_p), text=check.text)
    best = min(agreeing, key=_p)
    p = None if best.p is None else min(1.0, best.p * len(outcomes))
    return dataclasses.replace(best, text=check.text, p=p)


def _trend(check: Trend, evidence: Evidence) -> Outcome:
    points = evidence.points(check.place, check.over)
    if len(points) < 3:
        raise NoNumber("fewer than three points")
    effect, p = spearman(*zip(*points, strict=True))
    return Outcome(
        dataset=check.dataset,
        text=check.text,
        numbers=f"rank correlation {effect:.2f}",
        effect=effect,
        p=p,
        n=len(points),
        runs=1,
        test="permutation of ranks",
        agrees=effect > 0 if check.sign == "rising" else effect < 0,
        apart=evidence.apart(check.place),
    )


def _compared(check: Comparison, evidence: Evidence) -> Outcome:
    places = [place for place in (check.left, check.right) if place is not None]
    numbers = [evidence.number(place) for place in places]
    samples = [evidence.sample(place) for place in places]
    tested = [(term, _test(numbers, samples, term)) for term in _terms(check)]
    wrong = [found for term, found in tested if not term.agrees(found.effect)]
    deciding = min(wrong, key=_p) if wrong else max((found for _, found in tested), key=_p)
    middle = _test(numbers, samples, Term(check.factor, check.offset, 1.0)) if len(tested) > 1 else deciding
    return Outcome(
        dataset=check.dataset,
        text=check.text,
        numbers=" and ".join(f"{number:.4g}" for number in numbers),
        effect=middle.effect,
        p=deciding.p,
        n=deciding.n,
        runs=deciding.runs,
        test=deciding.test,
        agrees=not wrong,
        apart=next(filter(None, (evidence.apart(place) for place in places)), None),
    )


@dataclass(frozen=True)
class Term:
    """What a comparison asks: that left - factor * right - offset has a sign, or is zero where `weak`."""

    factor: float
    offset: float
    sign: float
    weak: bool = False

    def agrees(self, effect: float) -> bool:
        """Return whether an effect is as asked."""
        return effect * self.sign > 0 or (self.weak and effect == 0)


def _terms(check: Comparison) -> list[Term]:
    """Return what must hold together: one inequality, or two for an equality within a margin."""
    factor, offset = check.factor, check.offset
    if check.relation != "=":
        return [Term(factor, offset, 1.0 if check.relation[0] == ">" else -1.0, check.relation.endswith("="))]
    low, high = 1.0 - check.within, 1.0 + check.within
    if not check.relative:
        return [Term(factor, offset - check.within, 1.0, True), Term(factor, offset + check.within, -1.0, True)]
    return [Term(factor * low, offset * low, 1.0, True), Term(factor * high, offset * high, -1.0, True)]


def _test(numbers: list[float], samples: list[Sample | None], term: Term) -> Contrast:
    left, right = samples[0], samples[-1]
    if len(numbers) == 1:
        return plain(numbers[0], 0.0, 1.0, term.offset) if left is None else against(left, term.offset)
    if left is None or right is None:
        return plain(numbers[0], numbers[1], term.factor, term.offset)
    return contrast(left, right, term.factor, term.offset)


def _p(found: Contrast | Outcome) -> float:
    return 0.0 if found.p is None else found.p
