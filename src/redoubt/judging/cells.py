"""Cells: one published number beside the reproduced one, with its interval and verdict."""

from __future__ import annotations

from typing import Any

from redoubt import registry
from redoubt.judging.estimate import Estimate, NoValue, estimate
from redoubt.lazily import pd
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.published import Published

COLUMNS = [
    "study",
    "artifact",
    "row",
    "column",
    "metric",
    "published",
    "reproduced",
    "difference",
    "ci_low",
    "ci_high",
    "n",
    "seeds",
    "verdict",
    "reason",
]
FOUND = ["reproduced", "ci_low", "ci_high", "n", "seeds", "reason"]


def verdict(published: Published | None, found: Estimate, kind: str, entry: ArtifactEntry) -> tuple[str, str]:
    """Return the verdict on a cell and its reason.

    `reproduced`: the published value lies in our interval, widened by half a unit of its last printed digit and by the
    tolerance of its kind (absolute for rates, relative for means). Nothing is compared where the scale says so.
    """
    if published is None:
        return "not-comparable", "the paper prints no number"
    if not entry.comparable:
        return "not-comparable", entry.stamp
    tolerance = entry.verdict.rate if kind == "rate" else entry.verdict.mean * published.value
    slack = published.half_unit + tolerance
    inside = found.low - slack <= published.value <= found.high + slack
    return ("reproduced" if inside else "deviates"), ""


def measured(metric: str, rows: pd.DataFrame | None, missing: str | None) -> dict[str, Any]:
    """Return the facts of a metric over rows by the names of `FOUND`; without a number, the reason why.

    Args:
        metric: its name.
        rows: attacked images, of all seeds; None when there are none.
        missing: why there are none.
    """
    nothing = {"reproduced": None, "ci_low": None, "ci_high": None, "n": 0, "seeds": 0, "reason": missing}
    if missing is not None or rows is None:
        return nothing
    seeds = int(rows["seed"].nunique())
    try:
        found = estimate(metric, rows)
    except NoValue as reason:
        return nothing | {"seeds": seeds, "reason": str(reason)}
    numbers = {"reproduced": found.value, "ci_low": found.low, "ci_high": found.high, "n": found.n}
    return numbers | {"seeds": seeds, "reason": None}


def cell(
    entry: ArtifactEntry,
    place: tuple[str, str],
    metric: str,
    rows: pd.DataFrame | None,
    missing: str | None,
    published: Published | None,
) -> dict[str, Any]:
    """Return one cell of a table.

    Args:
        entry: of the artifact.
        place: row and column.
        metric: its name.
        rows: attacked images, of all seeds; None when there are none.
        missing: why there are none.
        published: the printed number; None when the paper has none.
    """
    row, column = place
    base = dict.fromkeys(COLUMNS) | {"study": entry.study, "artifact": entry.id, "row": row, "column": column}
    base |= {"metric": metric, "published": published.value if published else None}
    facts = measured(metric, rows, missing)
    if facts["reproduced"] is None:
        return base | facts | {"verdict": "not-run"}
    found = Estimate(*(facts[name] for name in ("reproduced", "ci_low", "ci_high", "n")))
    judged, reason = verdict(published, found, registry.method("metrics", metric).KIND, entry)
    difference = found.value - published.value if published else None
    return base | facts | {"difference": difference, "verdict": judged, "reason": reason}


def shown(metric: str, value: float | None) -> str:
    """Return a value as it is printed: percent with two decimals, scientific or plain with three digits."""
    if value is None or pd.isna(value):
        return "—"
    unit = registry.method("metrics", metric).UNIT
    if unit == "percent":
        return f"{100 * value:.2f} %"
    return f"{value:.2e}" if unit == "scientific" else f"{value:.4g}"
