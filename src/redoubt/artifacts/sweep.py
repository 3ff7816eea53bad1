"""Trade-off curves: final test accuracy against rho_2, one curve for each series, one point for each model.

Source: DeepDefense, figures 4 and 5. The paper's text gives the order of the points only; here x is rho_2 and y is
accuracy, so c decreases from left to right.
"""

from __future__ import annotations

from typing import Any

from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import lazy
from redoubt.records import Strict
from redoubt.study.needs import ANY, Need

pd = lazy("pandas")
style = lazy("redoubt.artifacts._style")


class Curve(Strict):
    """The models of one curve."""

    label: str
    models: list[str]


class Parameters(Strict):
    """Curves, and the parameter of the defense that changes along each."""

    along: str
    curves: list[Curve]
    reference: str | None = None


def needs(parameters: dict) -> list[Need]:
    """Return the histories that are read."""
    models = [model for curve in parameters["curves"] for model in curve["models"]]
    return [Need(model) for model in [*models, *filter(None, [parameters["reference"]])]]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    points = [(curve.label, model) for curve in parameters.curves for model in curve.models]
    points += [("Reference", parameters.reference)] if parameters.reference else []
    measured = dict.fromkeys([parameters.along, "seed", "test_images", "test_accuracy", "test_rho_2"], ANY)
    return [{"curve": label, "model": model} | measured for label, model in points]


def collect(entry: dict, inputs: Inputs) -> pd.DataFrame:
    """Return one row per model and seed: the last row of its history, or the reason why there is none."""
    options = entry["parameters"]
    rows = []
    points = [(curve["label"], model) for curve in options["curves"] for model in curve["models"]]
    if options["reference"]:
        points.append(("Reference", options["reference"]))
    for label, model in points:
        facts = {"curve": label, "model": model}
        facts[options["along"]] = entry["models"][model]["defense"]["parameters"].get(options["along"])
        if (reason := inputs.missing(model)) is not None:
            rows.append({**facts, "reason": reason})
            continue
        last = inputs.curves(model).groupby("seed").tail(1)
        kept = last.reindex(columns=["seed", "test_images", "test_accuracy", "test_rho_2"]).to_dict("records")
        rows.extend({**facts, **row} for row in kept)
    columns = ["curve", "model", options["along"], "seed", "test_images", "test_accuracy", "test_rho_2", "reason"]
    return pd.DataFrame(rows).reindex(columns=columns)


def draw(entry: dict, inputs: Inputs) -> Drawing:
    """Draw the curves, every point with the value that changes along the curve."""
    data, along = collect(entry, inputs), entry["parameters"]["along"]
    figure, axes = style.grid(1, 1, 4.6, 3.2)
    axis = axes[0][0]
    done = data.dropna(subset=["test_accuracy"])
    if done.empty:
        style.absent(axis, data["reason"].dropna().tolist())
    for number, (label, curve) in enumerate(done[done["curve"] != "Reference"].groupby("curve", sort=False)):
        points = curve.groupby(along)[["test_rho_2", "test_accuracy"]].mean()
        axis.plot(
            points["test_rho_2"], points["test_accuracy"], label=label.replace("lambda", "λ"), **style.series(number)
        )
        for value in (points.index.min(), points.index.max()):
            place = points.loc[value]
            axis.annotate(
                f"${along}$={value:g}",
                tuple(place),
                xytext=(3, 4),
                textcoords="offset points",
                fontsize=6.5,
                color="#444444",
            )
    reference = done[done["curve"] == "Reference"]
    if len(reference):
        axis.plot(reference["test_rho_2"], reference["test_accuracy"], label="Reference", **style.method("Reference"))
    axis.set_xlabel(r"test $\rho_2$")
    axis.set_ylabel("test accuracy")
    if not done.empty:
        axis.legend(frameon=False)
    style.stamp(figure, entry["stamp"])
    return Drawing(data, figure=figure)
