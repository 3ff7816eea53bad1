"""A table of the shape of universal perturbations: the share of energy off the centre, and how evenly it is spread.

Source: PeerNets, section 4.3.2, which says of those for peer networks that they are localised, and in the background.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from redoubt.artifacts._markdown import called, table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import np, pd
from redoubt.records import Share, Strict
from redoubt.rows import rho_of
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need, Swept

KIND = "table"
COLUMNS = ["row", "rho", "seed", "l2", "outside", "evenly", "entropy", "reason"]

ADDRESS = ("row",)  # columns that name a number in a claim


class Parameters(Strict):
    """The attack that crafted the perturbations, and its models from top to bottom."""

    attack: str
    models: list[str]
    centre: Share = Field(0.5, description="side of the central square or rectangle as a share of the image's")
    show: list[str] = ["dataset", "network", "method"]


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, parameters.attack) for model in parameters.models]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    known = [{"row": model, "rho": Swept(model, parameters.attack)} for model in parameters.models]
    return [dict.fromkeys(COLUMNS, ANY) | cell for cell in known]


def outside(v: np.ndarray, centre: float) -> float:
    """Return the share in [0, 1] of the energy of `v` (C, H, W) that lies outside the centre; NaN where v is zero.

    The energy of a pixel is the sum of its squares; the centre has the middle `centre` of the rows and columns.
    """
    energy = np.square(np.asarray(v, dtype=np.float64)).sum(0)
    rows, columns = (_middle(size, centre) for size in energy.shape)
    return float(1.0 - energy[rows, columns].sum() / energy.sum()) if energy.any() else math.nan


def _middle(size: int, share: float) -> slice:
    edge = round(size * (1 - share) / 2)
    return slice(edge, size - edge)


def entropy(v: np.ndarray) -> float:
    """Return the spatial entropy of |v| (C, H, W), summed over channels, as a share of the greatest; NaN for zero.

    It is 1 where every pixel has the same sum, and 0 where one pixel has all.
    """
    sums = np.abs(np.asarray(v, dtype=np.float64)).sum(0).ravel()
    if not sums.any():
        return math.nan
    shares = sums[sums > 0] / sums.sum()
    return float(-(shares * np.log(shares)).sum() / math.log(len(sums))) + 0.0


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Return one row per model, seed and radius, and their table as Markdown."""
    options = entry.parameters
    rows: list[dict[str, Any]] = []
    for model in options.models:
        if (reason := inputs.missing(model, options.attack)) is not None:
            rows.append({"row": model, "reason": reason})
            continue
        for seed, perturbations in inputs.shared(model, options.attack).items():
            for name in sorted(perturbations, key=rho_of):
                facts = _facts(perturbations[name], options.centre)
                rows.append({"row": model, "rho": rho_of(name), "seed": seed, **facts})
    data = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return Drawing(data, text=markdown(entry, data))


def _facts(v: np.ndarray, centre: float) -> dict[str, Any]:
    facts = {"l2": float(np.linalg.norm(v.astype(np.float64))), "outside": outside(v, centre)}
    facts |= {"evenly": outside(np.ones_like(v), centre), "entropy": entropy(v)}
    return facts | {"reason": None if facts["l2"] else "the perturbation is zero: no crafting image was moved"}


HEADER = ["ρ", "seed", "l2 norm", "energy off the centre", "if spread evenly", "entropy"]


def markdown(entry: ArtifactEntry[Parameters], data: pd.DataFrame) -> str:
    """Return the table as Markdown, a line for each perturbation."""
    show = entry.parameters.show
    rows = [[*called(entry, row["row"], show), *_cells(row)] for row in data.to_dict("records")]
    return table(entry, [*show, *HEADER], rows, [f"\n- {reason}" for reason in data["reason"].dropna().unique()])


def _cells(row: dict[str, Any]) -> list[str]:
    if pd.isna(row["rho"]):
        return ["not run", "", "", "", "", ""]
    place, evenly = [f"{row['rho']:g}", f"{row['seed']:.0f}"], f"{100 * row['evenly']:.1f} %"
    if pd.isna(row["outside"]):
        return [*place, "0", "—", evenly, "—"]
    return [*place, f"{row['l2']:.3g}", f"{100 * row['outside']:.1f} %", evenly, f"{row['entropy']:.4f}"]
