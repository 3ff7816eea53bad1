"""Convergence curves: test accuracy and rho_2 after every epoch, one panel for each network and measure.

Source: DeepDefense, figures 2 and 6.
"""

from __future__ import annotations

from typing import Any

from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import lazy
from redoubt.records import Strict
from redoubt.study.needs import ANY, Need

pd = lazy("pandas")
style = lazy("redoubt.artifacts._style")

MEASURES = {"test_accuracy": "test accuracy", "test_rho_2": r"test $\rho_2$"}


class Panel(Strict):
    """The models of one network."""

    title: str
    models: list[str]


class Parameters(Strict):
    """Panels from left to right, two for each network."""

    panels: list[Panel]


def needs(parameters: dict) -> list[Need]:
    """Return the models whose histories and traces are read."""
    return [Need(model) for panel in parameters["panels"] for model in panel["models"]]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    measured = dict.fromkeys(["method", "seed", "epoch", "test_images", *MEASURES], ANY)
    models = [(panel.title, model) for panel in parameters.panels for model in panel.models]
    return [{"panel": title, "model": model} | measured for title, model in models]


def collect(entry: dict, inputs: Inputs) -> pd.DataFrame:
    """Return one row per model, seed and epoch; a model that was not run has one row with its reason."""
    frames = []
    for panel in entry["parameters"]["panels"]:
        for model in panel["models"]:
            labels = {"panel": panel["title"], "model": model, "method": entry["models"][model]["labels"]["method"]}
            reason = inputs.missing(model)
            frame = inputs.curves(model) if reason is None else pd.DataFrame([{"reason": reason}])
            frames.append(frame.assign(**labels))
    columns = ["panel", "model", "method", "seed", "epoch", "test_images", *MEASURES, "reason"]
    return pd.concat(frames, ignore_index=True).reindex(columns=columns)


def draw(entry: dict, inputs: Inputs) -> Drawing:
    """Draw the curves; several seeds are averaged."""
    data = collect(entry, inputs)
    panels = entry["parameters"]["panels"]
    figure, axes = style.grid(1, 2 * len(panels), 2.6, 2.3)
    for number, panel in enumerate(panels):
        own = data[data["panel"] == panel["title"]]
        for axis, (measure, label) in zip(axes[0][2 * number : 2 * number + 2], MEASURES.items(), strict=True):
            letter = "abcdefgh"[2 * number + list(MEASURES).index(measure)]
            axis.set_title(f"({letter}) {panel['title']}")
            _curves(axis, own, measure)
            axis.set_ylabel(label)
    handles, names = axes[0][0].get_legend_handles_labels()
    for axis in axes[0][1:]:
        if not handles:
            handles, names = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    style.stamp(figure, entry["stamp"])
    return Drawing(data, figure=figure)


def _curves(axis, data: pd.DataFrame, measure: str) -> None:
    if data[measure].isna().all():
        return style.absent(axis, data["reason"].dropna().tolist())
    for method, curve in data.dropna(subset=[measure]).groupby("method", sort=False):
        mean = curve.groupby("epoch")[measure].mean()
        axis.plot(mean.index, mean.values, label=method, markevery=max(1, len(mean) // 8), **style.method(method))
    axis.set_xlabel("epoch")
    axis.margins(x=0.03)
