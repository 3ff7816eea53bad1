"""Curves of metrics along a sweep: one column of panels for each dataset, one row for each metric, one curve a model.

Intervals are of 95 %; what the paper prints is drawn as hollow markers without a line.
Source: PeerNets, figure 7 (arXiv v1: figures 6 to 8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.judging.cells import FOUND, measured
from redoubt.lazily import lazy, np, pd
from redoubt.metrics.interface import Named, read
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need, Sampled, Swept
from redoubt.study.published import read_published

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from redoubt.artifacts import _style as style
else:
    style = lazy("redoubt.artifacts._style")

ADDRESS = ("model", "measure")  # columns that name a number in a claim


class Measure(Strict):
    """A metric that is drawn."""

    metric: Named
    label: str = Field(description="of the axis")
    printed: str | None = Field(None, description="column of printed numbers, with {} for the swept value")
    clean: Named | None = Field(None, description="metric whose value on the same rows is drawn where the sweep is 0")
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


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, attack) for panel in parameters.panels for model, attack in _attacked(panel).items()]


def _attacked(panel: Panel) -> dict[str, str]:
    """Return the attack that each model of a panel is under."""
    return {**dict.fromkeys(panel.models, panel.attack), **panel.others}


def metrics(parameters: Parameters) -> list[str]:
    """Return the metrics that are computed."""
    named = [metric for measure in parameters.measures for metric in (measure.metric, measure.clean)]
    return [metric for metric in dict.fromkeys(named) if metric]


def printed(parameters: Parameters) -> list[str]:
    """Return the artifacts whose printed numbers are drawn too."""
    return [panel.printed for panel in parameters.panels if panel.printed]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    found = []
    for panel in parameters.panels:
        for model, attack in _attacked(panel).items():
            for measure in parameters.measures:
                place: dict[str, Any] = {"panel": panel.title, "model": model, "attack": attack}
                place |= {"measure": measure.label}
                place[parameters.along] = Swept(model, attack, (0.0,) if measure.clean else ())
                found.append(place | dict.fromkeys(["name", "metric", "published", *FOUND], ANY))
    return found


def samples(parameters: Parameters) -> list[Sampled]:
    """Return what every point is made of, that of a clean metric left out."""
    return [
        Sampled(
            {"panel": panel.title, "model": model, "attack": attack, "measure": measure.label},
            model,
            attack,
            measure.metric,
            {},
            parameters.along,
        )
        for panel in parameters.panels
        for model, attack in _attacked(panel).items()
        for measure in parameters.measures
    ]


def collect(entry: ArtifactEntry, inputs: Inputs) -> pd.DataFrame:
    """Return one row per model, metric and value of the sweep; a model that was not run has one row with its reason."""
    rows, along, published = [], entry.parameters.along, read_published(entry.published)
    for panel in entry.parameters.panels:
        for model, attack in _attacked(panel).items():
            name = style.name(entry.models[model].labels)
            facts = {"panel": panel.title, "model": model, "name": name, "attack": attack}
            if (reason := inputs.missing(model, attack)) is not None:
                rows.append({**facts, "reason": reason})
                continue
            attacked = inputs.rows(model, attack)
            if along not in attacked:
                raise RedoubtError(f"along: the rows of {attack} have no column {along!r}")
            for measure in entry.parameters.measures:
                for value, column, metric, images in _points(measure, attacked, along):
                    printed = published.get((panel.printed, model, column))
                    place = {"measure": measure.label, along: value, "metric": metric}
                    number = printed.value if printed else None
                    rows.append({**facts, **place, "published": number, **measured(metric, images, None).model_dump()})
    columns = ["panel", "model", "name", "attack", "measure", along, "metric", "published", *FOUND]
    return pd.DataFrame(rows).reindex(columns=columns)


def _points(measure: Measure, attacked: pd.DataFrame, along: str) -> list[tuple]:
    """Return value of the sweep, printed column, metric and rows of each point of a curve."""
    groups = list(attacked.groupby(along))
    points = []
    if measure.clean is not None and groups[0][0] > 0:
        points.append((0.0, measure.printed_clean, measure.clean, groups[0][1]))
    for value, images in groups:
        column = measure.printed.format(f"{value:g}") if measure.printed else None
        points.append((float(value), column, measure.metric, images))
    return points


def draw(entry: ArtifactEntry, inputs: Inputs) -> Drawing:
    """Draw the curves, with a legend under every column."""
    data, options = collect(entry, inputs), entry.parameters
    order = {"row_order": [measure.label for measure in options.measures]}
    order |= {"col_order": [panel.title for panel in options.panels]}
    rates = all(read(measure.metric).KIND == "rate" for measure in options.measures)
    share = {"sharex": "col", "sharey": "row" if rates else False}
    grid = style.panels(data, 3.3, 2.5, row="measure", col="panel", **order, **share)
    for (line, column), axis in np.ndenumerate(grid.axes):
        measure, panel = options.measures[line], options.panels[column]
        shown = data[data["panel"] == panel.title]
        looks = style.variants(list(_attacked(panel)), entry)
        axis.set(title=panel.title if line == 0 else "")
        _curves(axis, shown[shown["measure"] == measure.label], options.along, looks, shown["reason"])
        axis.set_ylabel(measure.label if column == 0 else "")
        if read(measure.metric).KIND == "rate":
            axis.set_ylim(-0.03, 1.03)
            style.in_percent(axis)
        if line == len(options.measures) - 1 and shown["measure"].notna().any():
            axis.set_xlabel(options.axis, labelpad=3, fontsize=11)
            axis.locator_params(axis="x", nbins=6)  # labels of small values are long
            _legend(axis, shown, looks)
    style.stamp(grid.figure, entry.stamp)
    return Drawing(data, figure=grid.figure)


def _curves(axis: Axes, data: pd.DataFrame, along: str, looks: dict[str, dict], reasons: pd.Series) -> None:
    if data["reproduced"].isna().all():
        return style.absent(axis, [*data["reason"].dropna(), *reasons.dropna()])
    style.lines(axis, style.with_intervals(data), along, "value", looks, "model", **style.INTERVAL)
    style.lines(axis, data, along, "published", looks, "model", **style.HOLLOW)


def _legend(axis: Axes, data: pd.DataFrame, looks: dict[str, dict]) -> None:
    names = data.groupby("model")["name"].first()
    drawn = set(data.loc[data["reproduced"].notna(), "model"])
    keys = style.handles(looks, drawn, names, printed=data["published"].notna().any())
    axis.legend(handles=keys, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2, frameon=False, fontsize=7)
