"""Worst of several: of the finished rows of other attacks on the same model, for every image those of the strongest.

Source: AttackBench (Cinà et al., AAAI 2025), whose envelope is the nearest example that any attack found of an image.

Nothing is run: a member's rows are taken whole, every repetition of them, so that both rules by which random models are
scored read what that member's examples did. By rates the strongest has the largest share of repetitions that are
misclassified (`wrong`), or whose prediction changed (`changed`): an image that any member fooled in any repetition has
a fooled repetition here, so neither the mean nor the worst of repetitions is above that of a member. By a norm it is
the nearest example that changes the prediction in at least half of the repetitions. Ties go to the member that is read
first. To choose by the same draws that are counted takes a little too much from a random model; more repetitions make
that small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import interface
from redoubt.errors import RedoubtError
from redoubt.lazily import np, pd
from redoubt.records import Strict
from redoubt.rows import DECIDED_BY

NEEDS = "finished rows of other attacks"
THREAT = "that of the attacks that it reads"
COST = "none"
ENGINES = ("redoubt",)
SWEEP = None  # that of the attacks that it reads

MEMBER, QUERIES = DECIDED_BY, "queries"
COLUMNS = ("label", "clean_label", "adversarial_label", "success", "l2", "linf", "x_l2", "x_linf", "loss", "detected")


class Parameters(Strict):
    """What makes a member the strongest."""

    by: Literal["wrong", "changed", "l2", "linf"] = Field(
        description="misclassified, prediction changed, or the norm of the nearest example that changes it"
    )
    sweep: str | None = Field(None, description="column that all members sweep, over the same values")
    whole: bool = Field(
        False,
        description="one member for all images, as for universal perturbations, which may not be chosen by image",
    )
    level: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="by a norm: one size for all images, the smallest at which this share is misclassified"
    )


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Refuse: it is made of rows alone.

    Raises:
        RedoubtError: always.
    """
    raise RedoubtError("worst-of: it reads the rows of other attacks and crafts nothing; name it in a study's attacks")


def combine(members: Mapping[str, pd.DataFrame], parameters: Parameters) -> pd.DataFrame:
    """Return for every image, and every value of the sweep, the rows of the strongest member.

    Args:
        members: rows of attacks on one model and the same images, by the attack's id; the first wins a tie.
        parameters: what is strongest.

    Returns:
        The columns that members share of `COLUMNS`, index, repetition and the sweep's; `decided_by`, the id of the
        member, null where none changed the prediction; `queries`, the sum over the members that count them.

    Raises:
        RedoubtError: members are not of the same images, or lack the column of the sweep.
    """
    keys = ["index", *([parameters.sweep] if parameters.sweep else [])]
    check(members, keys)
    shared = [name for name in COLUMNS if all(name in rows for rows in members.values())]
    repeated = [name for name in ("repetition",) if all(name in rows for rows in members.values())]
    parts = [rows[[*keys, *repeated, *shared]].assign(**{MEMBER: name}) for name, rows in members.items()]
    rows = pd.concat(parts, ignore_index=True)
    ranked = _ranked(rows, keys, parameters)
    best = ranked.drop_duplicates(keys)
    result = best[[*keys, MEMBER]].merge(rows, on=[*keys, MEMBER], how="left")
    reached = best.set_index(keys)["reached"]
    known = pd.MultiIndex.from_frame(result[keys]) if len(keys) > 1 else pd.Index(result["index"])
    result[MEMBER] = result[MEMBER].where(reached.reindex(known).to_numpy(), None)
    result = result.sort_values([*keys[1:], *repeated, "index"], kind="stable", ignore_index=True)
    if parameters.level is not None:
        result = _levelled(result, parameters.by, parameters.level)
    spent = _queries(members, keys)
    return result if spent is None else result.merge(spent, on=keys, how="left")


def check(members: Mapping[str, pd.DataFrame], keys: list[str]) -> None:
    """Refuse members that are not of the same images, at the same values of the sweep.

    Raises:
        RedoubtError: naming the member that differs from the first.
    """
    if not members:
        raise RedoubtError("worst-of: there is nothing to read; name attacks in `reads`")
    (first, reference), *_ = members.items()
    for name, rows in members.items():
        if lacking := [key for key in [*keys, "label"] if key not in rows]:
            raise RedoubtError(f"worst-of: the rows of {name} have no column {lacking[0]!r}")
        if _places(rows, keys) != _places(reference, keys):
            count, expected = (part["index"].nunique() for part in (rows, reference))
            raise RedoubtError(
                f"worst-of: the {count} images of {name} are not the {expected} of {first}; give both the same "
                "`select`, and the same values where they sweep"
            )
        if (own := _repetitions(rows)) != (other := _repetitions(reference)):
            raise RedoubtError(f"worst-of: {name} is scored {own} times and {first} {other} times; give both as many")


def _repetitions(rows: pd.DataFrame) -> int:
    return int(rows["repetition"].nunique()) if "repetition" in rows else 1


def _places(rows: pd.DataFrame, keys: list[str]) -> set[tuple]:
    return set(rows[[*keys, "label"]].itertuples(index=False, name=None))


def _ranked(rows: pd.DataFrame, keys: list[str], parameters: Parameters) -> pd.DataFrame:
    """Return a row for each member at each place, the strongest member of a place before the others; and `reached`."""
    wrong = rows["adversarial_label"] != rows["label"]
    hit = (wrong if parameters.by == "wrong" else rows["success"]).astype(np.float64)
    facts = rows[[*keys, MEMBER]].assign(share=hit, size=rows.get(parameters.by, 0.0), changed=rows["success"])
    found = facts.groupby([*keys, MEMBER], sort=False, as_index=False)[["share", "size", "changed"]].mean()
    by_norm = parameters.by in ("l2", "linf")
    found["reached"] = found["share"] >= 0.5 if by_norm else (found["share"] > 0.0) & (found["changed"] > 0.0)
    found["order"] = -found["share"]
    if by_norm:
        found["order"] = np.where(found["reached"], found["size"] - found["size"].max() - 2.0, found["order"])
    if parameters.whole:
        found["order"] = found.groupby([*keys[1:], MEMBER], sort=False)["order"].transform("mean")
    return found.sort_values("order", kind="stable")  # members stay in the order in which they are read


def _levelled(rows: pd.DataFrame, norm: str, level: float) -> pd.DataFrame:
    """Return rows as an attack of one size has them: the smallest at which a share of the images is misclassified.

    Images that were wrong before need none; those that withstood every member none that is known, so that the size is
    infinite where they are too many.
    """
    before = rows["clean_label"] != rows["label"]
    sizes = rows[norm].where(rows[MEMBER].notna(), np.inf).where(~before, 0.0)
    size = float(np.sort(sizes)[math.ceil(level * len(sizes)) - 1])
    kept = rows["clean_label"].where(sizes > size, rows["adversarial_label"]).where(~before, rows["clean_label"])
    return rows.assign(adversarial_label=kept, success=kept != rows["clean_label"], **{norm: size})


def _queries(members: Mapping[str, pd.DataFrame], keys: list[str]) -> pd.DataFrame | None:
    """Return what all members that count their queries have spent on an image; None where none counts."""
    counted = [rows.groupby(keys, as_index=False)[QUERIES].max() for rows in members.values() if QUERIES in rows]
    return pd.concat(counted).groupby(keys, as_index=False)[QUERIES].sum() if counted else None
