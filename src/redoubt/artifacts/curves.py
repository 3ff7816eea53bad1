"""Curves of metrics along a sweep: one column of panels for each dataset, one row for each metric, one curve a model.

Intervals are of 95 %; what the paper prints is drawn as hollow markers without a line.
Source: PeerNets, figure 7 (arXiv v1: figures 6 to 8).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from redoubt import registry
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.judging.cells import FOUND, measured, reach
from redoubt.lazily import lazy
from redoubt.records import Strict
from redoubt.study.needs import ANY, Need, Swept
from redoubt.study.published import read_published

pd = lazy("pandas")
style = lazy("redoubt.artifacts._style")
ticker = lazy("matplotlib.ticker")


class Measure(Strict):
    """A metric that is drawn."""

    metric: str
    label: str = Field(description="of the axis")
    printed: str | None = Field(None, description="column of printed numbers, with {} for the swept value")
    clean: str | None = Field(None, description="metric whose value on the same rows is drawn where the sweep is 0")
    printed_clean: str | None = Field(None, description="column of the printed numbers of `clean`")


class Panel(Strict):
    """The models of one dataset, and the attack whose sweep is drawn."""

    title: str
    attack: str
    models: list[str]
    others: dict[str, str] = Field({}, description="further models, for comparison, each with the attack it is under")
    printed: str | None = Field(None, description="artifact whose printed numbers are drawn too")

    @model_validator(mode="after")
    def _distinct(self) -> Panel:
        if twice := set(self.models) & set(self.others):
            raise ValueError(f"others: {', '.join(sorted(twice))} is in models too")
        return self


class Parameters(Strict):
    """Panels from left to right, metrics from top to bottom."""

    along: str = Field("rho", description="column of the rows that is swept")
    axis: str = Field("ρ", description="label of the sweep's axis")
    measures: list[Measure]
    panels: list[Panel]


def needs(parameters: dict[str, Any]) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, attack) for panel in parameters["panels"] for model, attack in _attacked(panel).items()]


def _attacked(panel: dict[str, Any]) -> dict[str, str]:
    """Return the attack that each model of a panel is under."""
    return {**dict.fromkeys(panel["models"], panel["attack"]), **panel["others"]}


def metrics(parameters: dict[str, Any]) -> list[str]:
    """Return the metrics that are computed."""
    named = [measure[key] for measure in parameters["measures"] for key in ("metric", "clean")]
    return [metric for metric in dict.fromkeys(named) if metric]


def printed(parameters: Parameters) -> list[str]:
    """Return the artifacts whose printed numbers are drawn too."""
    return [panel.printed for panel in parameters.panels if panel.printed]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    found = []
    for panel in parameters.panels:
        for model, attack in {**dict.fromkeys(panel.models, panel.attack), **panel.others}.items():
            for measure in parameters.measures:
                place = {"panel": panel.title, "model": model, "attack": attack, "measure": measure.label}
                place[parameters.along] = Swept(model, attack, (0.0,) if measure.clean else ())
                found.append(place | dict.fromkeys(["name", "metric", "published", *FOUND], ANY))
    return found


def collect(entry: dict[str, Any], inputs: Inputs) -> pd.DataFrame:
    """Return one row per model, metric and value of the sweep; a model that was not run has one row with its reason."""
    options, rows = entry["parameters"], []
    along, published = options["along"], read_published(entry["published"])
    for panel in options["panels"]:
        for model, attack in _attacked(panel).items():
            name = style.name(entry["models"][model]["labels"])
            facts = {"panel": panel["title"], "model": model, "name": name, "attack": attack}
            if (reason := inputs.missing(model, attack)) is not None:
                rows.append({**facts, "reason": reason})
                continue
            frame = inputs.rows(model, attack)
            if along not in frame:
                raise RedoubtError(f"along: the rows of {attack} have no column {along!r}")
            for measure in options["measures"]:
                for value, column, metric, own in _points(measure, frame, along):
                    printed = published.get((panel["printed"], model, column))
                    place = {"measure": measure["label"], along: value, "metric": metric}
                    number = printed.value if printed else None
                    rows.append({**facts, **place, "published": number, **measured(metric, own, None)})
    columns = ["panel", "model", "name", "attack", "measure", along, "metric", "published", *FOUND]
    return pd.DataFrame(rows).reindex(columns=columns)


def _points(measure: dict[str, Any], frame: pd.DataFrame, along: str) -> list[tuple]:
    """Return value of the sweep, printed column, metric and rows of each point of a curve."""
    groups = list(frame.groupby(along))
    points = []
    if measure["clean"] is not None and groups[0][0] > 0:
        points.append((0.0, measure["printed_clean"], measure["clean"], groups[0][1]))
    for value, own in groups:
        column = measure["printed"].format(f"{value:g}") if measure["printed"] else None
        points.append((float(value), column, measure["metric"], own))
    return points


def draw(entry: dict[str, Any], inputs: Inputs) -> Drawing:
    """Draw the curves, with a legend under every column."""
    data, options = collect(entry, inputs), entry["parameters"]
    figure, axes = style.grid(len(options["measures"]), len(options["panels"]), 3.3, 2.5)
    lowest = axes[-1]
    for column, panel in enumerate(options["panels"]):
        own = data[data["panel"] == panel["title"]]
        looks = style.variants(list(_attacked(panel)), entry)
        for line, measure in enumerate(options["measures"]):
            axis = axes[line][column]
            if line == 0:
                axis.set_title(panel["title"])
            _curves(axis, own, measure["label"], options["along"], looks)
            if registry.method("metrics", measure["metric"]).KIND == "rate":
                axis.set_ylim(-0.03, 1.03)
                axis.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
            axis.set_ylabel(measure["label"] if column == 0 else "")
        if own["measure"].notna().any():
            _align([axis for axis in axes[:, column] if axis.lines])
            lowest[column].set_xlabel(options["axis"], labelpad=3, fontsize=11)
            _legend(lowest[column], own, looks)
    style.stamp(figure, entry["stamp"])
    return Drawing(data, figure=figure)


def _curves(axis, data: pd.DataFrame, measure: str, along: str, looks: dict[str, dict]) -> None:
    own = data[data["measure"] == measure]
    if own["reproduced"].isna().all():
        return style.absent(axis, data["reason"].dropna().tolist())
    for model, look in looks.items():
        curve = own[(own["model"] == model) & own["reproduced"].notna()]
        if not len(curve):
            continue
        axis.errorbar(curve[along], curve["reproduced"], yerr=reach(curve), elinewidth=0.8, capsize=1.5, **look)
        printed = own[(own["model"] == model) & own["published"].notna()]
        axis.plot(
            printed[along],
            printed["published"],
            color=look["color"],
            marker=look["marker"],
            linestyle="none",
            fillstyle="none",
            markersize=7,
            markeredgewidth=0.8,
        )


def _align(axes: list) -> None:
    """Give all panels of a column the range of the sweep that the widest of them shows."""
    low, high = zip(*(axis.get_xlim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_xlim(min(low), max(high))
        axis.locator_params(axis="x", nbins=6)  # labels of small values are long


def _legend(axis, data: pd.DataFrame, looks: dict[str, dict]) -> None:
    names, points = data.groupby("model")["name"].first(), data.groupby("model")["reproduced"].count()
    labels = {model: names[model] if points[model] else f"{names[model]} (not run)" for model in looks}
    handles = [axis.plot([], [], label=labels[model], **look)[0] for model, look in looks.items()]
    if data["published"].notna().any():
        hollow = {"color": "#666666", "marker": "o", "linestyle": "none", "fillstyle": "none", "markersize": 7}
        handles.append(axis.plot([], [], label="as printed", **hollow)[0])
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2, frameon=False, fontsize=7)
