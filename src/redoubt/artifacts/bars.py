"""Columns of a table as bars: one panel for each quantity, one group of bars for each attack, one bar for each model.

Intervals are of 95 %; the printed number is a diamond on each bar.
Source: PeerNets, figure 5, which plots its table 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from redoubt.artifacts import metric_table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.artifacts.metric_table import Column
from redoubt.errors import RedoubtError
from redoubt.judging.cells import FOUND, measured, shown
from redoubt.lazily import lazy, pd
from redoubt.metrics.interface import read
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need, Sampled
from redoubt.study.published import read_published

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from redoubt.artifacts import _style as style
else:
    style = lazy("redoubt.artifacts._style")
seaborn = lazy("seaborn")
lines = lazy("matplotlib.lines")
patches = lazy("matplotlib.patches")
ticker = lazy("matplotlib.ticker")

KIND = "figure"
HATCHES = ["", "///", "...", "xxx"]
PRINTED: dict[str, Any] = {"color": "#ffffff", "marker": "D", "linestyle": "none"}
PRINTED |= {"markeredgecolor": "#000000", "markersize": 5}


class Bar(Strict):
    """A column of the table."""

    label: str = Field(description="text under its bars")
    column: str = Field(description="label of the column")


class Panel(Strict):
    """One quantity: columns of the table from left to right."""

    title: str
    bars: Annotated[list[Bar], Field(min_length=1)]
    log: bool = Field(False, description="whether the axis is logarithmic")


class Parameters(Strict):
    """The table that is drawn, and its columns by panel."""

    models: list[str]
    columns: list[Column]
    panels: list[Panel]
    printed: str | None = Field(None, description="artifact whose printed numbers are drawn too")

    @model_validator(mode="after")
    def _distinct(self) -> Parameters:
        for panel in self.panels:
            if len({bar.label for bar in panel.bars}) < len(panel.bars):
                raise ValueError(f"give each bar of {panel.title!r} a separate label")
        return self


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return metric_table.needs(parameters)


def metrics(parameters: Parameters) -> list[str]:
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


def samples(parameters: Parameters) -> list[Sampled]:
    """Return what every bar is made of."""
    columns = {column.label: column for column in parameters.columns}
    bars = [(panel.title, bar, columns[bar.column]) for panel in parameters.panels for bar in panel.bars]
    return [
        Sampled(
            {"panel": title, "bar": bar.label, "model": model, "column": bar.column},
            model,
            column.attack,
            column.metric,
            dict(column.where),
        )
        for title, bar, column in bars
        for model in parameters.models
    ]


def collect(entry: ArtifactEntry[Parameters], inputs: Inputs) -> pd.DataFrame:
    """Return one row per panel, bar and model, with a number or the reason why there is none."""
    options, rows, published = entry.parameters, [], read_published(entry.published)
    columns = {column.label: column for column in options.columns}
    for panel in options.panels:
        for bar in panel.bars:
            if bar.column not in columns:
                raise RedoubtError(f"panels: {bar.column!r} is not the label of a column")
            column = columns[bar.column]
            for model in options.models:
                missing, images = metric_table.measured_rows(column, model, inputs)
                printed = published.get((options.printed or "", model, column.label))
                place = {"panel": panel.title, "bar": bar.label, "model": model, "column": column.label}
                facts = {"metric": column.metric, "published": printed.value if printed else None}
                rows.append(place | facts | measured(column.metric, images, missing).model_dump())
    data = pd.DataFrame(rows, columns=["panel", "bar", "model", "column", "metric", "published", *FOUND])
    data.insert(3, "name", [style.name(entry.models[model].labels) for model in data["model"]])
    return data


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Draw the bars, each with its value."""
    data, options = collect(entry, inputs), entry.parameters
    titles = [panel.title for panel in options.panels]
    grid = style.panels(data, 3.0, 2.6, col="panel", col_order=titles, sharex=False, sharey=False)
    looks = style.variants(options.models, entry)
    for axis, panel in zip(grid.axes[0], options.panels, strict=True):
        _bars(axis, data[data["panel"] == panel.title], panel, looks)
        axis.set(title=panel.title, xlabel="", ylabel="")
    names = data.groupby("model")["name"].first()
    keys = [
        patches.Patch(label=names[model], **_face(look, place)) for place, (model, look) in enumerate(looks.items())
    ]
    if data["published"].notna().any():
        keys.append(lines.Line2D([], [], label="as printed", **PRINTED))
    grid.figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), frameon=False)
    style.stamp(grid.figure, entry.stamp)
    return Drawing(data, figure=grid.figure)


def _face(look: dict[str, Any], place: int) -> dict[str, Any]:
    """Return the look of a model's bars."""
    return {"facecolor": look["color"], "edgecolor": look["color"], "alpha": 0.55, "hatch": HATCHES[place % 4]}


def _bars(axis: Axes, data: pd.DataFrame, panel: Panel, looks: dict[str, dict]) -> None:
    if data["reproduced"].isna().all():
        return style.absent(axis, data["reason"].dropna().tolist())
    labels, models = [bar.label for bar in panel.bars], list(looks)
    whiskers = {"capsize": 0.12, "err_kws": {"color": "#333333", "linewidth": 0.8}}
    order = {"order": labels, "hue_order": models, "palette": {model: looks[model]["color"] for model in models}}
    options = {"gap": 0.1, "legend": False, "ax": axis}
    seaborn.barplot(
        style.with_intervals(data), x="bar", y="value", hue="model", **order, **whiskers, **style.INTERVAL, **options
    )
    for place, (bars, look) in enumerate(zip(axis.containers, looks.values(), strict=True)):
        for bar in bars:
            bar.set(**_face(look, place))
    for facts in data.to_dict("records"):
        middle = labels.index(facts["bar"]) + 0.8 * ((models.index(facts["model"]) + 0.5) / len(models) - 0.5)
        axis.plot([middle], [facts["published"]], zorder=3, **PRINTED)
        _write(axis, middle, facts)
    axis.set_xlim(-0.5, len(labels) - 0.5)
    axis.grid(axis="x", visible=False)
    if panel.log:
        heights = pd.concat([data["reproduced"], data["published"]]).dropna()
        axis.set_yscale("log")
        axis.set_ylim(0.5 * heights[heights > 0].min(), 2.0 * max(heights.max(), data["ci_high"].max()))
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    elif read(data["metric"].iloc[0]).KIND == "rate":
        axis.set_ylim(0, 1.12)
        style.in_percent(axis)


def _write(axis: Axes, place: float, facts: dict[str, Any]) -> None:
    """Write the value over its bar's interval, or in its place why there is none."""
    text: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 6}
    text |= {"textcoords": "offset points", "xytext": (0, 4)}
    if pd.isna(facts["reproduced"]):
        reason = facts["reason"] if len(facts["reason"]) < 25 else "not run"
        foot: dict[str, Any] = {"xycoords": axis.get_xaxis_transform(), "rotation": 90, "color": "#666666"}
        axis.annotate(reason, (place, 0.02), **text, **foot)
        return
    percent = read(facts["metric"]).unit == "percent"
    value = f"{100 * facts['reproduced']:.1f}" if percent else shown(facts["metric"], facts["reproduced"])
    # A diamond may lie under it.
    ground: dict[str, Any] = {"facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.7, "pad": 0.3}
    axis.annotate(value, (place, facts["ci_high"]), color="#222222", bbox=ground, zorder=4, **text)
