"""A table of agreement: each attack beside the same attack of another library, on the same model and images.

They agree when at most one image in 200 is fooled by one alone, and the mean norms over images that both fool differ by
at most 2 %; a pair may ask only that ours is not larger, when the referee is known to stop before the nearest
example.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from redoubt.artifacts._markdown import table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.lazily import pd
from redoubt.records import Share, Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need

KIND = "table"
RATES = ["n", "success", "success_referee", "differing"]
NORMS = ["norm", "norm_rule", "mean_norm", "mean_norm_referee", "ratio"]
COLUMNS = ["model", "attack", "referee", "epsilon", *RATES, *NORMS, "agrees"]
Rule = Literal["equal", "not-larger"]


class Pair(Strict):
    """An attack of ours and the referee's, which attack the same images with the same parameters."""

    attack: str
    referee: str
    norm: Literal["l2", "linf"] = "l2"
    norm_rule: Rule = Field("equal", description="what our mean norm must be beside the referee's")


class Parameters(Strict):
    """The model and the pairs, from top to bottom."""

    model: str
    pairs: list[Pair]
    differing: Share = Field(0.005, description="share of images that one of the two alone may fool")
    tolerance: Share = Field(0.02, description="relative difference of mean norms that still counts as the same")


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(parameters.model, attack) for pair in parameters.pairs for attack in (pair.attack, pair.referee)]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    known = [{"attack": pair.attack, "referee": pair.referee} for pair in parameters.pairs]
    return [dict.fromkeys(COLUMNS, ANY) | {"model": parameters.model} | cell for cell in known]


def compare(
    ours: pd.DataFrame, theirs: pd.DataFrame, norm: str, differing: float, tolerance: float, norm_rule: Rule = "equal"
) -> dict[str, Any]:
    """Return the facts of one pair from rows of the same images in the same order.

    Success is misclassification here, which both engines aim at. Where no image is fooled by both, norms agree.

    Raises:
        RedoubtError: the rows are not of the same images.
    """
    if ours["index"].tolist() != theirs["index"].tolist():
        raise RedoubtError("pairs: the two attacks have different images; give both the same `select` and sweep")
    wrong = [rows["adversarial_label"].to_numpy() != rows["label"].to_numpy() for rows in (ours, theirs)]
    both = wrong[0] & wrong[1] & (ours["clean_label"] == ours["label"]).to_numpy()
    means = [float(rows[norm][both].mean()) if both.any() else 0.0 for rows in (ours, theirs)]
    ratio = means[0] / means[1] if means[1] else 1.0
    apart = int((wrong[0] != wrong[1]).sum())
    lowest = 1 - tolerance if norm_rule == "equal" else 0.0
    agrees = apart <= max(1, differing * len(ours)) and lowest <= ratio <= 1 + tolerance
    rates = dict(zip(RATES, [len(ours), *(float(each.mean()) for each in wrong), apart], strict=True))
    norms = dict(zip(NORMS, [norm, norm_rule, *means, ratio], strict=True))
    return {**rates, **norms, "agrees": agrees}


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Return the pairs' facts and their table as Markdown."""
    options, rows, reasons = entry.parameters, [], []
    for pair in options.pairs:
        attacks = (pair.attack, pair.referee)
        missing = [reason for attack in attacks if (reason := inputs.missing(options.model, attack)) is not None]
        if missing:
            reasons.append(missing[0])
            continue
        ours, theirs = (_by_epsilon(inputs.rows(options.model, attack)) for attack in attacks)
        if list(ours) != list(theirs):
            raise RedoubtError(f"{pair.attack} and {pair.referee}: their epsilons differ")
        for epsilon, images in ours.items():
            limits = (options.differing, options.tolerance, pair.norm_rule)
            place = {"model": options.model, "attack": pair.attack, "referee": pair.referee, "epsilon": epsilon}
            rows.append(place | compare(images, theirs[epsilon], pair.norm, *limits))
    data = pd.DataFrame(rows, columns=COLUMNS)
    return Drawing(data, text=markdown(entry, data, reasons))


def _by_epsilon(rows: pd.DataFrame) -> dict[float | None, pd.DataFrame]:
    """Return the rows of each value of a sweep; a search, where epsilon differs by image, is one group.

    Rows of several runs of the model are put together.
    """
    if "epsilon" not in rows or not rows.duplicated(["seed", "index"]).any():
        return {None: rows}
    return dict(iter(rows.groupby("epsilon", sort=True)))


HEADER = ["attack", "referee", "epsilon", "n", "success", "referee's", "differing"]
HEADER += ["norm", "mean", "referee's", "ratio", "agrees"]


def rounded(size: float) -> str:
    """Return a norm with three significant digits, and all digits before the point."""
    if size <= 0:
        return "0"
    places = 2 - math.floor(math.log10(float(f"{size:.3g}")))
    return f"{size:.{max(0, places)}f}"


def markdown(entry: ArtifactEntry[Parameters], data: pd.DataFrame, reasons: list[str]) -> str:
    """Return the table as Markdown."""
    notes = [f"\n- not run: {reason}" for reason in dict.fromkeys(reasons)]
    return table(entry, HEADER, map(_cells, data.to_dict("records")), notes)


def _cells(row: dict[str, Any]) -> list[str]:
    size = "—" if pd.isna(row["epsilon"]) else f"{row['epsilon']:g}"
    norm = row["norm"] if row["norm_rule"] == "equal" else f"{row['norm']}, {row['norm_rule'].replace('-', ' ')}"
    rates = [f"{100 * row['success']:.1f} %", f"{100 * row['success_referee']:.1f} %", str(row["differing"])]
    norms = [norm, rounded(row["mean_norm"]), rounded(row["mean_norm_referee"]), f"{row['ratio']:.3f}"]
    agrees = "yes" if row["agrees"] else "**no**"
    return [row["attack"], row["referee"], size, str(row["n"]), *rates, *norms, agrees]
