"""Trade-off curves: final test accuracy against rho_2, one curve for each series, one point for each model.

Source: DeepDefense, figures 4 and 5. The paper's text gives the order of the points only; here x is rho_2 and y is
accuracy, so c decreases from left to right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import lazy, pd
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

style = lazy("redoubt.artifacts._style")

REFERENCE = "Reference"

ADDRESS = ("curve",)  # columns that name a number in a claim


class Curve(Strict):
    """The models of one curve."""

    label: str
    models: list[str]


class Parameters(Strict):
    """Curves, and the parameter of the defense that changes along each."""

    along: str
    curves: list[Curve]
    reference: str | None = None


def needs(parameters: Parameters) -> list[Need]:
    """Return the histories that are read."""
    models = [model for curve in parameters.curves for model in curve.models]
    return [Need(model) for model in [*models, *filter(None, [parameters.reference])]]


def shows(parameters: Parameters) -> list[str]:
    """Return the parameters of defenses that are shown."""
    return [parameters.along]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    points = [(curve.label, model) for curve in parameters.curves for model in curve.models]
    points += [("Reference", parameters.reference)] if parameters.reference else []
    measured = dict.fromkeys([parameters.along, "seed", "test_images", "test_accuracy", "test_rho_2"], ANY)
    return [{"curve": label, "model": model} | measured for label, model in points]


def collect(entry: ArtifactEntry, inputs: Inputs) -> pd.DataFrame:
    """Return one row per model and seed: the last row of its history, or the reason why there is none."""
    options, rows = entry.parameters, []
    points = [(curve.label, model) for curve in options.curves for model in curve.models]
    if options.reference:
        points.append((REFERENCE, options.reference))
    for label, model in points:
        facts = {"curve": label, "model": model}
        facts[options.along] = entry.models[model].parameters.get(options.along)
        if (reason := inputs.missing(model)) is not None:
            rows.append({**facts, "reason": reason})
            continue
        last = inputs.curves(model).groupby("seed").tail(1)
        kept = last.reindex(columns=["seed", "test_images", "test_accuracy", "test_rho_2"]).to_dict("records")
        rows.extend({**facts, **row} for row in kept)
    columns = ["curve", "model", options.along, "seed", "test_images", "test_accuracy", "test_rho_2", "reason"]
    return pd.DataFrame(rows).reindex(columns=columns)


def draw(entry: ArtifactEntry, inputs: Inputs) -> Drawing:
    """Draw the means over seeds, the ends of every curve with the value that changes along it."""
    data, along = collect(entry, inputs), entry.parameters.along
    figure, axes = style.grid(1, 1, 4.6, 3.2)
    axis = axes[0][0]
    done = data.dropna(subset=["test_accuracy"])
    if done.empty:
        style.absent(axis, data["reason"].dropna().tolist())
    else:
        done = done.assign(**{along: done[along].fillna(0.0)})  # the reference has no defense
        points = done.groupby(["curve", along], sort=False)[["test_rho_2", "test_accuracy"]].mean().reset_index()
        points = points.sort_values(along, kind="stable")
        curves = data.loc[data["curve"] != REFERENCE, "curve"]
        looks = style.series(curves) | style.methods(set(data["curve"]) & {REFERENCE})
        style.lines(axis, points, "test_rho_2", "test_accuracy", looks, "curve", sort=False, estimator=None)
        for number, (label, curve) in enumerate(points[points["curve"] != REFERENCE].groupby("curve", sort=False)):
            _ends(axis, curve, along, looks[label]["color"], number)
        for key in (keys := style.handles(looks, set(done["curve"]))):
            key.set_label(key.get_label().replace("lambda", "λ"))
        axis.legend(handles=keys, frameon=False)
    axis.set(xlabel=r"test $\rho_2$", ylabel="test accuracy")
    style.stamp(figure, entry.stamp)
    return Drawing(data, figure=figure)


def _ends(axis: Axes, curve: pd.DataFrame, along: str, color: str, number: int) -> None:
    """Write the parameter's value at both ends of a curve, over or under them, at another distance for each curve."""
    distance, sign = 6 + 8 * (number // 2), 1 - 2 * (number % 2)
    place: dict[str, Any] = {"xytext": (0, sign * distance), "textcoords": "offset points", "ha": "center"}
    place |= {"va": "bottom" if sign > 0 else "top", "fontsize": 6.5, "color": color}
    for _, end in curve.iloc[[0, -1]].drop_duplicates(along).iterrows():
        axis.annotate(f"${along}$={end[along]:g}", (end["test_rho_2"], end["test_accuracy"]), **place)
