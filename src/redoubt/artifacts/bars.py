"""Columns of a table as bars: one panel for each quantity, one group of bars for each attack, one bar for each model.

Intervals are of 95 %; what the paper prints is a diamond beside each bar.
Source: PeerNets, figure 5, which plots its table 2.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from redoubt import registry
from redoubt.artifacts import metric_table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.artifacts.metric_table import Column, picked
from redoubt.errors import RedoubtError
from redoubt.judging.cells import FOUND, measured, reach, shown
from redoubt.lazily import lazy
from redoubt.records import Strict
from redoubt.study.needs import ANY, Need
from redoubt.study.published import read_published

pd = lazy("pandas")
style = lazy("redoubt.artifacts._style")
ticker = lazy("matplotlib.ticker")


class Bar(Strict):
    """A column of the table."""

    label: str = Field(description="what stands under its bars")
    column: str = Field(description="label of the column")


class Panel(Strict):
    """One quantity: columns of the table from left to right."""

    title: str
    bars: Annotated[list[Bar], Field(min_length=1)]
    log: bool = Field(False, description="whether the axis is logarithmic")


class Parameters(Strict):
    """The table that is drawn, and what of it."""

    models: list[str]
    columns: list[Column]
    panels: list[Panel]
    printed: str | None = Field(None, description="artifact whose printed numbers are drawn too")

    @model_validator(mode="after")
    def _distinct(self) -> Parameters:
        for panel in self.panels:
            if len({bar.label for bar in panel.bars}) < len(panel.bars):
                raise ValueError(f"give each bar of {panel.title!r} a label of its own")
        return self


def needs(parameters: dict[str, Any]) -> list[Need]:
    """Return the attacks that are read."""
    return metric_table.needs(parameters)


def metrics(parameters: dict[str, Any]) -> list[str]:
    """Return the metrics that are computed."""
    return metric_table.metrics(parameters)


def printed(parameters: Parameters) -> list[str]:
    """Return the artifacts whose printed numbers are drawn too."""
    return [parameters.printed] if parameters.printed else []


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    bars = [(panel.title, bar) for panel in parameters.panels for bar in panel.bars]
    known = [
        {"panel": title, "bar": bar.label, "model": model, "column": bar.column}
        for title, bar in bars
        for model in parameters.models
    ]
    return [cell | dict.fromkeys(["name", "metric", "published", *FOUND], ANY) for cell in known]


def collect(entry: dict[str, Any], inputs: Inputs) -> pd.DataFrame:
    """Return one row per panel, bar and model, with a number or the reason why there is none."""
    options, rows = entry["parameters"], []
    published = read_published(entry["published"])
    columns = {column["label"]: column for column in options["columns"]}
    for panel in options["panels"]:
        for bar in panel["bars"]:
            label = bar["column"]
            if label not in columns:
                raise RedoubtError(f"panels: {label!r} is not the label of a column")
            column = columns[label]
            for model in options["models"]:
                missing = inputs.missing(model, column["attack"])
                own = None if missing else picked(inputs.rows(model, column["attack"]), column["where"])
                printed = published.get((options["printed"], model, label))
                place = {"panel": panel["title"], "bar": bar["label"], "model": model, "column": label}
                facts = {"metric": column["metric"], "published": printed.value if printed else None}
                rows.append(place | facts | measured(column["metric"], own, missing))
    names = {model: style.name(entry["models"][model]["labels"]) for model in options["models"]}
    data = pd.DataFrame(rows, columns=["panel", "bar", "model", "column", "metric", "published", *FOUND])
    data.insert(3, "name", data["model"].map(names))
    return data


def draw(entry: dict[str, Any], inputs: Inputs) -> Drawing:
    """Draw the bars, each with its value."""
    data, options = collect(entry, inputs), entry["parameters"]
    figure, axes = style.grid(1, len(options["panels"]), 3.0, 2.6)
    looks = style.variants(options["models"], entry)
    for axis, panel in zip(axes[0], options["panels"], strict=True):
        axis.set_title(panel["title"])
        _bars(axis, data[data["panel"] == panel["title"]], panel, looks)
    handles, labels = axes[0][0].get_legend_handles_labels()
    if labels[:1] == ["as printed"]:  # matplotlib lists lines before bars
        handles, labels = [*handles[1:], handles[0]], [*labels[1:], labels[0]]
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    style.stamp(figure, entry["stamp"])
    return Drawing(data, figure=figure)


def _bars(axis, data: pd.DataFrame, panel: dict[str, Any], looks: dict[str, dict]) -> None:
    if data["reproduced"].isna().all():
        return style.absent(axis, data["reason"].dropna().tolist())
    width, hatches, bars = 0.8 / len(looks), ["", "///", "...", "xxx"], [bar["label"] for bar in panel["bars"]]
    for number, (model, look) in enumerate(looks.items()):
        own = data[data["model"] == model].set_index("bar").loc[bars]
        places = [place + (number + 0.5) * width - 0.4 for place in range(len(own))]
        face = {"facecolor": look["color"], "alpha": 0.55, "edgecolor": look["color"], "hatch": hatches[number % 4]}
        axis.bar(places, own["reproduced"], width * 0.9, label=own["name"].iloc[0], **face)
        whiskers = {"fmt": "none", "ecolor": "#333333", "elinewidth": 0.8, "capsize": 2}
        axis.errorbar(places, own["reproduced"], yerr=reach(own), **whiskers)
        printed = {"color": "#ffffff", "marker": "D", "linestyle": "none", "markeredgecolor": "#000000"}
        label = "as printed" if number == len(looks) - 1 and data["published"].notna().any() else None
        axis.plot(places, own["published"], markersize=5, label=label, zorder=3, **printed)
        for place, (_, found) in zip(places, own.iterrows(), strict=True):
            _write(axis, place, found)
    axis.set_xticks(range(len(bars)), bars)
    axis.set_xlim(-0.5, len(bars) - 0.5)
    axis.grid(axis="x", visible=False)
    if panel["log"]:
        heights = pd.concat([data["reproduced"], data["published"]]).dropna()
        axis.set_yscale("log")
        axis.set_ylim(0.5 * heights[heights > 0].min(), 2.0 * max(heights.max(), data["ci_high"].max()))
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    elif registry.method("metrics", data["metric"].iloc[0]).KIND == "rate":
        axis.set_ylim(0, 1.12)
        axis.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))


def _write(axis, place: float, found: pd.Series) -> None:
    """Write the value over its bar's interval, or in its place why there is none."""
    style_of = {"ha": "center", "va": "bottom", "fontsize": 6, "textcoords": "offset points", "xytext": (0, 4)}
    if pd.isna(found["reproduced"]):
        reason = found["reason"] if len(found["reason"]) < 25 else "not run"
        foot = {"xycoords": axis.get_xaxis_transform(), "rotation": 90, "color": "#666666"}
        axis.annotate(reason, (place, 0.02), **style_of, **foot)
        return
    percent = registry.method("metrics", found["metric"]).UNIT == "percent"
    text = f"{100 * found['reproduced']:.1f}" if percent else shown(found["metric"], found["reproduced"])
    ground = {"facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.7, "pad": 0.3}  # a diamond may lie under it
    axis.annotate(text, (place, found["ci_high"]), color="#222222", bbox=ground, zorder=4, **style_of)
