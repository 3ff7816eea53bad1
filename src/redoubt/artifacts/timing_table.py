"""A table of what peer layers cost: seconds with them and without, and their ratio beside the printed one.

Source: PeerNets, section 4.3, "Timing". It reads the inspection `timing`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from redoubt.artifacts._markdown import called, table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.judging.cells import COLUMNS, cell, shown, with_spread
from redoubt.judging.paper import Paper
from redoubt.judging.verdicts import judge
from redoubt.lazily import pd
from redoubt.records import Strict
from redoubt.rows import picked
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need, Sampled

KIND = "table"

METRIC = "time-ratio"
MEASURED = ["seconds", "seconds_plain", "batch_size", "peers", "draws", "device", "threads"]

ADDRESS = ("row", "column")  # columns that name a number in a claim


class Column(Strict):
    """One kind of work."""

    label: str
    what: Literal["training", "inference", "inference, peers recomputed"]


class Parameters(Strict):
    """The inspection, its models from top to bottom, and which kinds of work."""

    attack: str = Field(description="a timing inspection")
    models: list[str]
    columns: list[Column] = [
        Column(label="training ratio", what="training"),
        Column(label="inference ratio", what="inference"),
        Column(label="inference ratio, peers recomputed", what="inference, peers recomputed"),
    ]
    apart: str | None = Field(None, description="why our ratios may not be compared with the printed ones, if so")
    show: list[str] = ["dataset", "network", "method"]


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, parameters.attack) for model in parameters.models]


def metrics(parameters: Parameters) -> list[str]:
    """Return the metrics that are computed."""
    return [METRIC]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    known = [{"row": model, "column": column.label} for model in parameters.models for column in parameters.columns]
    return [dict.fromkeys([*COLUMNS, *MEASURED], ANY) | cell | {"metric": METRIC} for cell in known]


def samples(parameters: Parameters) -> list[Sampled]:
    """Return what every cell is made of."""
    return [
        Sampled({"row": model, "column": column.label}, model, parameters.attack, METRIC, {"what": column.what})
        for model in parameters.models
        for column in parameters.columns
    ]


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Return the cells, with the median seconds behind each, and their table as Markdown."""
    options, cells, times = entry.parameters, [], []
    paper = Paper(entry, ["dataset", "network"], {column.label: METRIC for column in options.columns})
    for model in options.models:
        missing = inputs.missing(model, options.attack)
        rows = None if missing else inputs.rows(model, options.attack)
        for column in options.columns:
            own = None if missing else picked(rows, {"what": column.what})
            printed = paper.prints(model, column.label, options.apart)
            cells.append(cell(entry, (model, column.label), METRIC, own, missing, printed))
            times.append(_times(own))
    judged = [found.model_dump() for found in judge(entry, cells, paper.block)]
    data = pd.DataFrame([found | own for found, own in zip(judged, times, strict=True)])
    data = data.reindex(columns=[*COLUMNS, *MEASURED])
    return Drawing(data, text=markdown(entry, data))


def _times(times: pd.DataFrame | None) -> dict[str, Any]:
    if times is None:
        return {}
    return {name: times[name].median() for name in MEASURED[:2]} | {name: times[name].iloc[0] for name in MEASURED[2:]}


HEADER = ["work", "batch", "N", "M", "with peer layers, s", "without, s", "paper", "ours", "verdict"]


def markdown(entry: ArtifactEntry[Parameters], data: pd.DataFrame) -> str:
    """Return the table as Markdown: a line for each model and kind of work."""
    show, run = entry.parameters.show, data["verdict"] != "not-run"
    rows = [[*called(entry, row["row"], show), row["column"], *_cells(row)] for row in data.to_dict("records")]
    notes = ["", "Ratios: median of measurements side by side [95 % interval]. Seconds: medians."]
    notes += [
        f"- {n} measurements each on {device}, threads: {threads:.0f}"
        for n, device, threads in data.loc[run, ["n", "device", "threads"]].drop_duplicates().to_numpy()
    ]
    notes += [f"- not run: {reason}" for reason in data.loc[~run, "reason"].unique()]
    return table(entry, [*show, *HEADER], rows, notes)


def _cells(row: dict[str, Any]) -> list[str]:
    if row["verdict"] == "not-run":
        return ["", "", "", "", "", shown(METRIC, row["published"]), "not run", ""]
    sizes = [f"{row[name]:.0f}" for name in ("batch_size", "peers", "draws")]
    seconds = [f"{row[name]:.3g}" for name in ("seconds", "seconds_plain")]
    interval = f"[{shown(METRIC, row['ci_low'])}, {shown(METRIC, row['ci_high'])}]"
    ours = f"**{with_spread(METRIC, row['reproduced'], row['std'])}** {interval}"
    return [*sizes, *seconds, with_spread(METRIC, row["published"], row["published_std"]), ours, row["verdict"]]
