"""Lines: metrics of attacked images along a sweep or a parameter of models, or what is measured while models train.

A column of panels for each of `panels`, a row for each of `y`. Points are, by what a line names:

- under an attack: a metric for each value of what the attack sweeps, or for each model of the line; intervals of 95 %;
- without an attack: every row of the model's history and trace, the mean over its seeds with a band from the lowest to
  the highest; or with `along` the last row of each model of the line.

What the paper prints is drawn as hollow markers without a line. What strong attacks leave of a model, where a suite
answers its line, is dashed in the same colour.
Sources: DeepDefense, figures 2 and 6 (over epochs), 4 and 5 (accuracy against rho_2, a point for each c; the paper's
text gives the order of the points only); PeerNets, figure 7 (arXiv v1: figures 6 to 8).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from redoubt.artifacts import _left
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.judging.cells import FOUND, measured
from redoubt.lazily import lazy, np, pd
from redoubt.metrics.interface import Named, read
from redoubt.records import Strict
from redoubt.rows import picked
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need, Sampled, Swept
from redoubt.study.published import read_published

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from redoubt.artifacts import _style as style
else:
    style = lazy("redoubt.artifacts._style")

KIND = "figure"


class Axis(Strict):
    """The horizontal axis."""

    column: str = Field(description="what the attack sweeps, a column of histories or traces, or the one of `along`")
    label: str
    log: bool = Field(False, description="whether the axis is logarithmic")


class Measure(Strict):
    """A vertical axis: a metric under the attack, or a column of histories or traces."""

    label: str
    metric: Named | None = Field(None, description="of the attacked images")
    column: str | None = Field(None, description="without an attack: what was measured while models train")
    log: bool = Field(False, description="whether the axis is logarithmic")
    printed: str | None = Field(None, description="column of printed numbers, with {} for the value of x")
    clean: Named | None = Field(None, description="metric whose value on the same rows is drawn where the sweep is 0")
    printed_clean: str | None = Field(None, description="column of the printed numbers of `clean`")


class Line(Strict):
    """A line through the points of one model, or through one point of each of several."""

    label: str | None = Field(None, description="in the legend, and in the column `curve`; needed of several models")
    models: Annotated[list[str], Field(min_length=1)]
    attack: str | None = Field(None, description="in place of the panel's")
    attacks: dict[float, str] = Field({}, description="in place of the panel's, likewise")
    at: float | None = Field(None, description="x of its points, where its attack does not sweep that")

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if self.label is None and len(self.models) > 1:
            raise ValueError("give a line of several models a label")
        return self

    @property
    def curve(self) -> str:
        """What the CSV calls the line."""
        return self.label if self.label is not None else self.models[0]

    def each(self) -> list[Line]:
        """Return the line under each of its attacks."""
        under = [self.model_copy(update={"attack": attack, "at": at}) for at, attack in self.attacks.items()]
        return under or [self]


class Panel(Strict):
    """Lines that are drawn together."""

    title: str = ""
    attack: str | None = Field(None, description="whose rows are read; histories and traces when null")
    attacks: dict[float, str] = Field({}, description="in its place, one for each value of x: no attack sweeps that")
    where: dict[str, float | str] = Field({}, description="values of what the attack sweeps besides x")
    models: list[str] = Field([], description="models with a line each, in the look of their method")
    lines: list[Line] = Field([], description="further lines: of several models, or under another attack")
    printed: str | None = Field(None, description="artifact whose printed numbers are drawn too")

    def all_lines(self) -> list[Line]:
        """Return all lines in the order of the legend, each with its attack."""
        lines = [*(Line(models=[model]) for model in self.models), *self.lines]
        shared = {"attack": self.attack, "attacks": self.attacks}
        return [line if line.attack or line.attacks else line.model_copy(update=shared) for line in lines]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        curves = [line.curve for line in self.all_lines()]
        if (self.attack and self.attacks) or any(line.attack and line.attacks for line in self.lines):
            raise ValueError("give attack or attacks, not both")
        if twice := {curve for curve in curves if curves.count(curve) > 1}:
            raise ValueError(f"lines: {', '.join(sorted(twice))} is there twice; give each line a separate label")
        return self


class Parameters(Strict):
    """Panels from left to right, measures from top to bottom."""

    x: Axis
    y: Annotated[list[Measure], Field(min_length=1)]
    panels: Annotated[list[Panel], Field(min_length=1)]
    along: str | None = Field(None, description="parameter of the defense that changes from model to model of a line")
    legend: str | None = Field(None, description="label of models that the legend shows; their name when null")

    def runs(self) -> list[tuple[Panel, Line, str]]:
        """Return what is drawn: models, with their panels and lines."""
        return [
            (panel, line, model)
            for panel in self.panels
            for whole in panel.all_lines()
            for line in whole.each()
            for model in line.models
        ]

    @property
    def attacked(self) -> bool:
        """Whether rows of attacks are drawn; histories and traces otherwise."""
        return self.y[0].metric is not None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        for measure in self.y:
            if (measure.metric is None) == (measure.column is None):
                raise ValueError(f"y: give {measure.label!r} a metric, or a column of histories or traces")
            apart = self.x.column == self.along or any(line.at is not None for _, line, _ in self.runs())
            if measure.clean is not None and (self.x.log or apart):
                raise ValueError(
                    "y.clean: clean images lie at the sweep's 0; leave out clean, along, attacks, a log axis"
                )
        attacked = {measure.metric is not None for measure in self.y}
        if attacked | {line.attack is not None for _, line, _ in self.runs()} != {self.attacked}:
            raise ValueError("panels: metrics are those of an attack, and columns of histories need none")
        return self

    def columns(self) -> list[str]:
        """Return the columns of the CSV."""
        base = ["panel", "curve", "model", "name", *filter(None, [self.along])]
        if self.attacked:
            return list(
                dict.fromkeys(
                    [*base, "attack", "measure", self.x.column, "metric", "published", *FOUND, *_left.COLUMNS]
                )
            )
        measures = [str(measure.column) for measure in self.y]
        return list(dict.fromkeys([*base, "seed", "epoch", "test_images", self.x.column, *measures, "reason"]))


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks, or the histories and traces, that are read."""
    return [Need(model, line.attack) for _, line, model in parameters.runs()]


def metrics(parameters: Parameters) -> list[str]:
    """Return the metrics that are computed."""
    named = [metric for measure in parameters.y for metric in (measure.metric, measure.clean)]
    return list(dict.fromkeys(filter(None, named)))


def printed(parameters: Parameters) -> list[str]:
    """Return the artifacts whose printed numbers are drawn too."""
    return [panel.printed for panel in parameters.panels if panel.printed]


def shows(parameters: Parameters) -> list[str]:
    """Return the parameters of defenses that are shown."""
    return [parameters.along] if parameters.along else []


def address(parameters: Parameters) -> list[str]:
    """Return the columns that name a number in a claim."""
    return ["curve", "measure"] if parameters.attacked else ["curve"]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    base, clean = dict.fromkeys(parameters.columns(), ANY), {measure.label: measure.clean for measure in parameters.y}
    if not parameters.attacked:
        known = [
            {"panel": panel.title, "curve": line.curve, "model": model} for panel, line, model in parameters.runs()
        ]
        return [base | cell for cell in known]
    found = []
    for each in samples(parameters):
        also = (0.0,) if clean[each.cell["measure"]] else ()
        found.append(base | each.cell | ({each.along: Swept(each.model, str(each.attack), also)} if each.along else {}))
    return found


def samples(parameters: Parameters) -> list[Sampled]:
    """Return what every point under an attack is made of, that of a clean metric left out."""
    along = None if parameters.x.column == parameters.along else parameters.x.column
    found = []
    for (panel, line, model), measure in itertools.product(parameters.runs(), parameters.y):
        if measure.metric is not None and line.attack is not None:
            place: dict[str, Any] = {"panel": panel.title, "curve": line.curve, "model": model, "attack": line.attack}
            place["measure"] = measure.label
            place |= {} if line.at is None else {parameters.x.column: line.at}
            swept = along if line.at is None else None
            found.append(Sampled(place, model, line.attack, measure.metric, dict(panel.where), swept))
    return found


def answerable(parameters: Parameters) -> list[Sampled]:
    """Return what strong attacks may answer: the numbers along a sweep, by model, and by panel and measure."""
    return [
        replace(each, cell={"row": each.model, "column": _left.column_of(each.cell["panel"], each.cell["measure"])})
        for each in samples(parameters)
        if each.along and each.cell["curve"] == each.model
    ]


# -- numbers ----------------------------------------------------------------------------------------------------------


def collect(entry: ArtifactEntry[Parameters], inputs: Inputs) -> pd.DataFrame:
    """Return one row per point: of a model and measure, or of a model, seed and moment of its training.

    A model that was not run has one row with its reason.
    """
    options, rows = entry.parameters, []
    for panel, line, model in options.runs():
        labels = entry.models[model].labels
        name = (line.label or "").replace("lambda", "λ") or labels.get(options.legend or "") or style.name(labels)
        facts = {"panel": panel.title, "curve": line.curve, "model": model, "name": name, "attack": line.attack}
        facts |= {key: entry.models[model].parameters.get(key) for key in shows(options)}
        if (reason := inputs.missing(model, line.attack)) is not None:
            rows.append(facts | {"reason": reason})
        elif line.attack is None:
            rows += [facts | row for row in _trained(inputs.curves(model), options)]
        else:
            rows += [facts | row for row in _attacked(entry, inputs, panel, line, model)]
    return pd.DataFrame(rows).reindex(columns=options.columns())


def _trained(history: pd.DataFrame, options: Parameters) -> list[dict[str, Any]]:
    """Return the moments at which something that is drawn was measured; of a line through models the last ones."""
    history = history.groupby("seed").tail(1) if options.along else history
    measures = [measure.column for measure in options.y]
    history = history.reindex(columns=history.columns.union(measures)).dropna(subset=measures, how="all")
    return history.to_dict("records")


def _attacked(
    entry: ArtifactEntry[Parameters], inputs: Inputs, panel: Panel, line: Line, model: str
) -> Iterator[dict[str, Any]]:
    """Yield the points of each measure of one model under the line's attack, which lie at its x where it has one."""
    options, published = entry.parameters, read_published(entry.published)
    rows, x = picked(inputs.rows(model, str(line.attack)), panel.where), options.x.column
    if line.at is not None:
        groups: list[tuple[Any, pd.DataFrame]] = [(line.at, rows)]
    elif x == options.along:
        groups = [(entry.models[model].parameters.get(x), rows)]
    elif x in rows:
        groups = list(rows.groupby(x))
    else:
        raise RedoubtError(f"x: the rows of {model} under the attack have no column {x!r}")
    for measure in options.y:
        left = _left.Left(entry, inputs, line.curve, _left.column_of(panel.title, measure.label), x)
        points = [(value, measure.printed, measure.metric, images) for value, images in groups]
        if measure.clean is not None and points[0][0] > 0:
            points.insert(0, (0.0, measure.printed_clean, measure.clean, points[0][3]))
        for value, column, metric, images in points:
            number = published.get((panel.printed or "", model, (column or "").format(f"{value:g}")))
            place = {"measure": measure.label, x: value, "metric": metric}
            place["published"] = number.value if number else None
            strong = left.point(str(metric), value, metric == measure.clean)
            yield place | measured(str(metric), images, None).model_dump() | strong


def estimates(data: pd.DataFrame, options: Parameters) -> pd.DataFrame:
    """Return the points that are drawn: panel, curve, measure, x, reproduced, ci_low, ci_high and published.

    Of histories these are the mean over seeds, the lowest and the highest; `order` is what the points follow along a
    line, where a model without the parameter lies at 0.
    """
    x, order = options.x.column, options.along or options.x.column
    if options.attacked:
        return data.assign(x=data[x], order=data[order]).dropna(subset=["measure"])
    parts = [data.assign(measure=measure.label, value=data[measure.column], x=data[x]) for measure in options.y]
    long = pd.concat(parts).dropna(subset=["value"])
    long["order"] = long[order].fillna(0.0)
    groups = long.groupby(["panel", "curve", "measure", "order"], sort=False)
    drawn = groups.agg(
        x=("x", "first" if x == order else "mean"),
        reproduced=("value", "mean"),
        ci_low=("value", "min"),
        ci_high=("value", "max"),
    )
    return drawn.reset_index().assign(published=np.nan, adaptive=np.nan)


# -- drawing ----------------------------------------------------------------------------------------------------------


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Draw the lines; one legend where all panels have the same lines, else one under every column."""
    data, options = collect(entry, inputs), entry.parameters
    points, titles = estimates(data, options), [panel.title for panel in options.panels]
    labels = [measure.label for measure in options.y]
    places = pd.DataFrame(list(itertools.product(labels, titles)), columns=["measure", "panel"])
    size = (4.6, 3.2) if len(places) == 1 else (3.3, 2.5)
    rates = all(measure.metric and read(measure.metric).KIND == "rate" for measure in options.y)
    grid = style.panels(places, *size, row="measure", col="panel", sharex="col", sharey="row" if rates else False)
    keys = []
    for axes, panel in zip(grid.axes.T, options.panels, strict=True):
        shown, looks = data[data["panel"] == panel.title], _looks(panel, entry)
        for axis, measure in zip(axes, options.y, strict=True):
            axis.set_title(panel.title if axis is axes[0] else "")
            here = points[(points["panel"] == panel.title) & (points["measure"] == measure.label)]
            if here["reproduced"].isna().all():
                style.absent(axis, shown["reason"].dropna().tolist())
            else:
                _lines(axis, here, looks, options)
            _scale(axis, measure, options)
            axis.set_ylabel(measure.label if panel is options.panels[0] else "")
        if points.loc[points["panel"] == panel.title, "reproduced"].notna().any():
            axes[-1].set_xlabel(options.x.label, labelpad=3, fontsize=11 if len(options.x.label) == 1 else None)
        drawn = points[(points["panel"] == panel.title) & points["reproduced"].notna()]
        names = shown.groupby("curve")["name"].first()
        marks = {"printed": drawn["published"].notna().any(), "strong": drawn["adaptive"].notna().any()}
        keys.append(style.handles(looks, set(drawn["curve"]), names, **marks))
    style.legends(grid, keys)
    style.stamp(grid.figure, entry.stamp)
    return Drawing(data, figure=grid.figure)


def _looks(panel: Panel, entry: ArtifactEntry[Parameters]) -> dict[str, dict[str, Any]]:
    """Return the look of each line: that of its model's method, or by its place where it has a label."""
    lines = panel.all_lines()
    looks = style.variants([line.curve for line in lines if line.label is None], entry)
    looks |= style.series(line.curve for line in lines if line.label is not None)
    return {line.curve: looks[line.curve] for line in lines}


def _lines(axis: Axes, points: pd.DataFrame, looks: dict[str, dict], options: Parameters) -> None:
    if options.along not in (None, options.x.column):
        points = points.sort_values("order", kind="stable")
        style.lines(axis, points, "x", "reproduced", looks, "curve", sort=False, estimator=None)
        for number, (curve, part) in enumerate(points.groupby("curve", sort=False)):
            _ends(axis, part, options.along, looks[curve]["color"], number)
        return
    band = {} if options.attacked or options.along else {"err_style": "band"}
    band |= {"markevery": max(1, points["x"].nunique() // 8)} if band else {}
    style.lines(axis, style.with_intervals(points), "x", "value", looks, "curve", **style.INTERVAL, **band)
    style.lines(axis, points, "x", "published", looks, "curve", **style.HOLLOW)
    style.lines(axis, points, "x", "adaptive", style.dashed(looks), "curve", **style.DASHED)


def _ends(axis: Axes, points: pd.DataFrame, along: str, color: str, number: int) -> None:
    """Write the parameter's value at both ends of a curve, over or under them, at another distance for each curve."""
    distance, sign = 6 + 8 * (number // 2), 1 - 2 * (number % 2)
    place: dict[str, Any] = {"xytext": (0, sign * distance), "textcoords": "offset points", "ha": "center"}
    place |= {"va": "bottom" if sign > 0 else "top", "fontsize": 6.5, "color": color}
    if len(points) > 1:
        for _, end in points.iloc[[0, -1]].iterrows():
            axis.annotate(f"${along}$={end['order']:g}", (end["x"], end["reproduced"]), **place)


def _scale(axis: Axes, measure: Measure, options: Parameters) -> None:
    """Set scales and ticks; rates are in percent, from 0 to 100."""
    if options.x.log:
        axis.set_xscale("log")
    if places := sorted({line.at for _, line, _ in options.runs() if line.at is not None}):
        axis.set_xticks(places, [f"{place:g}" for place in places])
        axis.set_xticks([], minor=True)
    elif axis.has_data() and not options.x.log:
        axis.locator_params(axis="x", nbins=6)  # labels of small values are long
    if measure.log:
        axis.set_yscale("log")
    elif measure.metric and read(measure.metric).KIND == "rate":
        axis.set_ylim(-0.03, 1.03)
        style.in_percent(axis)
