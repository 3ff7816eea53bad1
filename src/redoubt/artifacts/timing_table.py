"""A table of what peer layers cost: seconds with them and without, and their ratio beside the printed one.

Source: PeerNets, section 4.3, "Timing". It reads the inspection `timing`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.artifacts.metric_table import picked
from redoubt.judging.cells import COLUMNS, cell, shown
from redoubt.lazily import lazy
from redoubt.records import Strict
from redoubt.study.needs import ANY, Need
from redoubt.study.published import read_published

pd = lazy("pandas")

METRIC = "time-ratio"
MEASURED = ["seconds", "seconds_plain", "batch_size", "peers", "draws", "device", "threads"]


class Column(Strict):
    """One kind of work."""

    label: str
    what: Literal["training", "inference", "inference anew"]


class Parameters(Strict):
    """The inspection, its models from top to bottom, and which kinds of work."""

    attack: str = Field(description="a timing inspection")
    models: list[str]
    columns: list[Column] = [
        Column(label="training ratio", what="training"),
        Column(label="inference ratio", what="inference"),
        Column(label="inference ratio, peers anew", what="inference anew"),
    ]
    apart: str | None = Field(None, description="why our ratios may not be set against the printed ones, if so")
    show: list[str] = ["dataset", "network", "method"]


def needs(parameters: dict[str, Any]) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, parameters["attack"]) for model in parameters["models"]]


def metrics(parameters: dict[str, Any]) -> list[str]:
    """Return the metrics that are computed."""
    return [METRIC]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    known = [{"row": model, "column": column.label} for model in parameters.models for column in parameters.columns]
    return [dict.fromkeys([*COLUMNS, *MEASURED], ANY) | cell | {"metric": METRIC} for cell in known]


def draw(entry: dict[str, Any], inputs: Inputs) -> Drawing:
    """Return the cells, with the median seconds behind each, and their table as Markdown."""
    options, cells = entry["parameters"], []
    published = read_published(entry["published"])
    for model in options["models"]:
        missing = inputs.missing(model, options["attack"])
        rows = None if missing else inputs.rows(model, options["attack"])
        for column in options["columns"]:
            own = None if missing else picked(rows, {"what": column["what"]})
            known = published.get((entry["id"], model, column["label"]))
            found = cell(entry, (model, column["label"]), METRIC, own, missing, known)
            if options["apart"] is not None and missing is None:
                found |= {"verdict": "not-comparable", "reason": options["apart"]}
            if own is not None:
                found |= {name: own[name].median() for name in MEASURED[:2]}
                found |= {name: own[name].iloc[0] for name in MEASURED[2:]}
            cells.append(found)
    data = pd.DataFrame(cells).reindex(columns=[*COLUMNS, *MEASURED])
    return Drawing(data, text=markdown(entry, data))


def markdown(entry: dict[str, Any], data: pd.DataFrame) -> str:
    """Return the table as Markdown: a line for each model and kind of work."""
    options = entry["parameters"]
    header = [
        *options["show"],
        "work",
        "batch",
        "N",
        "M",
        "with peer layers, s",
        "without, s",
        "paper",
        "ours",
        "verdict",
    ]
    lines = [f"# {entry['title']}", "", f"_{entry['stamp']}_", "", entry["caption"], ""]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in data.to_dict("records"):
        labels = entry["models"][row["row"]]["labels"]
        cells = [*(labels.get(key, "") for key in options["show"]), row["column"]]
        if row["verdict"] == "not-run":
            cells += ["", "", "", "", "", shown(METRIC, row["published"]), "not run", ""]
        else:
            cells += [f"{row[name]:.0f}" for name in ("batch_size", "peers", "draws")]
            cells += [f"{row[name]:.3g}" for name in ("seconds", "seconds_plain")]
            interval = f"[{shown(METRIC, row['ci_low'])}, {shown(METRIC, row['ci_high'])}]"
            cells += [
                shown(METRIC, row["published"]),
                f"**{shown(METRIC, row['reproduced'])}** {interval}",
                row["verdict"],
            ]
        lines.append("| " + " | ".join(cells) + " |")
    counts = data.loc[data["verdict"] != "not-run", ["n", "device", "threads"]].drop_duplicates()
    lines += ["", "Ratios: median of measurements side by side [95 % interval]. Seconds: medians."]
    lines += [
        f"- {n} measurements each on {device}, threads: {threads:.0f}" for n, device, threads in counts.to_numpy()
    ]
    lines += [f"- not run: {reason}" for reason in data.loc[data["verdict"] == "not-run", "reason"].unique()]
    return "\n".join(lines) + "\n"
