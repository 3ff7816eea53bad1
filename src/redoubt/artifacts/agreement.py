"""A table of agreement: each attack beside the same attack of another library, on the same model and images.

They agree when at most one image in 200 is fooled by one alone, and the mean norms over images that both fool differ by
at most 2 %.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.catalog_types import Need
from redoubt.errors import RedoubtError
from redoubt.lazily import lazy
from redoubt.schema import Share, Strict

pd = lazy("pandas")

FACTS = ["n", "success", "success_referee", "differing", "norm", "mean_norm", "mean_norm_referee", "ratio", "agrees"]
COLUMNS = ["model", "attack", "referee", "epsilon", *FACTS]


class Pair(Strict):
    """An attack of ours and the referee's, which attack the same images with the same parameters."""

    attack: str
    referee: str
    norm: Literal["l2", "linf"] = "l2"


class Parameters(Strict):
    """The model and the pairs, from top to bottom."""

    model: str
    pairs: list[Pair]
    differing: Share = Field(0.005, description="share of images that one of the two alone may fool")
    tolerance: Share = Field(0.02, description="relative difference of mean norms that still counts as the same")


def needs(parameters: dict[str, Any]) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(parameters["model"], pair[side]) for pair in parameters["pairs"] for side in ("attack", "referee")]


def compare(ours: pd.DataFrame, theirs: pd.DataFrame, norm: str, differing: float, tolerance: float) -> dict[str, Any]:
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
    agrees = apart <= max(1, differing * len(ours)) and abs(ratio - 1) <= tolerance
    rates = [float(each.mean()) for each in wrong]
    return dict(zip(FACTS, [len(ours), *rates, apart, norm, *means, ratio, agrees], strict=True))


def draw(entry: dict[str, Any], inputs: Inputs) -> Drawing:
    """Return the pairs' facts and their table as Markdown."""
    options, found, reasons = entry["parameters"], [], []
    for pair in options["pairs"]:
        missing = inputs.missing(options["model"], pair["attack"]) or inputs.missing(options["model"], pair["referee"])
        if missing is not None:
            reasons.append(missing)
            continue
        sides = [inputs.rows(options["model"], pair[side]) for side in ("attack", "referee")]
        sweeps = [_by_epsilon(rows) for rows in sides]
        if list(sweeps[0]) != list(sweeps[1]):
            raise RedoubtError(f"{pair['attack']} and {pair['referee']}: their epsilons differ")
        for epsilon, rows in sweeps[0].items():
            facts = compare(rows, sweeps[1][epsilon], pair["norm"], options["differing"], options["tolerance"])
            place = {"model": options["model"], "attack": pair["attack"], "referee": pair["referee"]}
            found.append({**place, "epsilon": epsilon, **facts})
    data = pd.DataFrame(found, columns=COLUMNS)
    return Drawing(data, text=markdown(entry, data, reasons))


def _by_epsilon(rows: pd.DataFrame) -> dict[float | None, pd.DataFrame]:
    """Return the rows of each value of a sweep; a search, whose epsilon is each image's own, is one group."""
    if "epsilon" not in rows or rows["index"].is_unique:
        return {None: rows}
    return dict(iter(rows.groupby("epsilon", sort=True)))


def markdown(entry: dict[str, Any], data: pd.DataFrame, reasons: list[str]) -> str:
    """Return the table as Markdown."""
    header = [
        "attack",
        "referee",
        "epsilon",
        "n",
        "success",
        "referee's",
        "differing",
        "mean norm",
        "referee's",
        "agrees",
    ]
    lines = [f"# {entry['title']}", "", f"_{entry['stamp']}_", "", entry["caption"], ""]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in data.to_dict("records"):
        size = "—" if row["epsilon"] is None or pd.isna(row["epsilon"]) else f"{row['epsilon']:g}"
        cells = [row["attack"], row["referee"], size, str(row["n"])]
        cells += [f"{100 * row['success']:.2f} %", f"{100 * row['success_referee']:.2f} %", str(row["differing"])]
        cells += [f"{row['mean_norm']:.4g} ({row['norm']})", f"{row['mean_norm_referee']:.4g}"]
        lines.append("| " + " | ".join([*cells, "yes" if row["agrees"] else "**no**"]) + " |")
    lines += [f"\n- not run: {reason}" for reason in dict.fromkeys(reasons)]
    return "\n".join(lines) + "\n"
