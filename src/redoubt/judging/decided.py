"""The rows of claims.csv: a claim on all datasets, on each of them, and every check of it.

A row of a claim on all datasets has `all` in `dataset` and nothing in `check`; a row of one dataset has nothing in
`check`. `verdict` is on the paper's claim: `not-comparable` where our numbers may not be held against the paper's;
`here` is what our numbers say as they stand; `adaptive_verdict` what is left of it under strong attacks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from redoubt.judging.adapted import stands
from redoubt.judging.claims import ALL, Decision, Outcome, Verdict, decide
from redoubt.judging.evidence import UNANSWERED, Evidence
from redoubt.judging.tables import read_records
from redoubt.records import Strict
from redoubt.study.claims import Decidable, Resolved


class Row(Strict):
    """What is written of a claim or a check; its fields are the columns of the file, in their order.

    `effect`, `p`, `adjusted`, `n`, `runs` and `test` of a claim are those of the check that decides it: of the least
    sure one where it holds or is undecided, of the surest one against it where it fails.
    """

    study: str
    claim: str
    dataset: str = ALL
    check: str = ""
    statement: str = ""
    where: str = ""
    verdict: Verdict
    here: Verdict | None = None
    published_verdict: Verdict
    adaptive_verdict: Verdict | None = None
    effect: float | None = None
    p: float | None = None
    adjusted: float | None = None
    n: int | None = None
    runs: int | None = None
    test: str = ""
    evidence: str = ""

    @property
    def said(self) -> Verdict:
        """What our numbers say as they stand; rows of older runs have the verdict alone."""
        return self.here or self.verdict


def rows(
    study: str, key: str, claim: Resolved, ours: Evidence, printed: Evidence, adapted: Evidence | None = None
) -> list[Row]:
    """Decide a claim on our numbers, on the printed and on the adaptive ones: rows of all, datasets, checks.

    Without adaptive numbers the claim has no verdict on them, and `not-comparable` where no number is under an attack.
    """
    decided = [decide(claim.checks, evidence, claim.open) for evidence in (ours, printed, adapted or printed)]
    facts: dict[str, Any] = {"study": study, "claim": key, "statement": claim.statement, "where": claim.where}
    bare, result = unattacked(claim.checks), []
    for part, paper, strong in zip(*([own[-1], *own[:-1]] for own in decided), strict=True):
        numbers = _numbers(_deciding(part)) if part.outcomes else {}
        texts = {"dataset": part.dataset, "evidence": part.summary, "published_verdict": paper.here}
        left = {} if adapted is None else {"adaptive_verdict": left_of(strong, bare)}
        result.append(Row(**facts, **texts, **left, verdict=part.verdict, here=part.here, **numbers))
        if part.dataset != ALL:
            for outcome, printed_one, last in zip(part.outcomes, paper.outcomes, strong.outcomes, strict=True):
                left = {} if adapted is None else {"adaptive_verdict": left_of(last, bare)}
                result.append(_check(facts | left, outcome, printed_one))
    return result


def _check(facts: dict[str, Any], outcome: Outcome, paper: Outcome) -> Row:
    apart = outcome.apart is not None and outcome.outcome != "not-run"
    return Row(
        **facts,
        dataset=outcome.dataset,
        check=outcome.text,
        verdict="not-comparable" if apart else outcome.outcome,
        here=outcome.outcome,
        published_verdict=paper.outcome,
        evidence=outcome.apart if apart and not outcome.numbers else outcome.numbers,
        **_numbers(outcome),
    )


def unattacked(checks: Sequence[Decidable]) -> set[str]:
    """Return the datasets on which a claim reads no number under an attack, and `all` where they are all such."""
    attacked = {check.dataset for check in checks if not all(map(stands, check.places))}
    return {check.dataset for check in checks} - attacked | (set() if attacked else {ALL})


def left_of(part: Decision | Outcome, bare: Collection[str] = ()) -> Verdict:
    """Return the verdict on the adaptive numbers.

    `not-comparable` on a dataset in `bare`, see `unattacked`, and where no suite answers a number and none fails.
    """
    if part.dataset in bare:
        return "not-comparable"
    outcomes = part.outcomes if isinstance(part, Decision) else (part,)
    here = part.here if isinstance(part, Decision) else part.outcome
    unanswered = any(outcome.test.startswith(UNANSWERED) for outcome in outcomes)
    return "not-comparable" if here == "not-run" and unanswered else here


def _numbers(outcome: Outcome) -> dict[str, float | int | str | None]:
    run = outcome.outcome != "not-run"
    facts = {name: getattr(outcome, name) for name in ("effect", "p", "adjusted", "test")}
    return facts | {"n": outcome.n if run else None, "runs": outcome.runs if run else None}


def _deciding(part: Decision) -> Outcome:
    wanted = [outcome for outcome in part.outcomes if outcome.outcome == part.here] or list(part.outcomes)
    sure = min if part.here == "fails" else max
    return sure(wanted, key=lambda outcome: -1.0 if outcome.adjusted is None else outcome.adjusted)


def read(path: Path) -> list[Row]:
    """Return the rows of claims.csv; a blank file has none, and one of an older run lacks columns.

    Raises:
        RedoubtError: the file is missing or broken, or a value is not what its column asks for.
    """
    blank = path.is_file() and not path.read_bytes().strip()
    return [] if blank else read_records(path, Row)


def totals(found: Sequence[Row]) -> list[Row]:
    """Return the rows of claims on all their datasets."""
    return [row for row in found if row.dataset == ALL and not row.check]
