"""Convergence curves: test accuracy and rho_2 after every epoch, one panel for each network and measure.

Source: DeepDefense, figures 2 and 6.
"""

from __future__ import annotations

import itertools
from typing import Any

from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import lazy, pd
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need

style = lazy("redoubt.artifacts._style")

MEASURES = {"test_accuracy": "test accuracy", "test_rho_2": r"test $\rho_2$"}

ADDRESS = ("model",)  # columns that name a number in a claim


class Panel(Strict):
    """The models of one network."""

    title: str
    models: list[str]


class Parameters(Strict):
    """Panels from left to right, two for each network."""

    panels: list[Panel]


def needs(parameters: Parameters) -> list[Need]:
    """Return the models whose histories and traces are read."""
    return [Need(model) for panel in parameters.panels for model in panel.models]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    measured = dict.fromkeys(["method", "seed", "epoch", "test_images", *MEASURES], ANY)
    models = [(panel.title, model) for panel in parameters.panels for model in panel.models]
    return [{"panel": title, "model": model} | measured for title, model in models]


def collect(entry: ArtifactEntry, inputs: Inputs) -> pd.DataFrame:
    """Return one row per model, seed and epoch; a model that was not run has one row with its reason."""
    frames = []
    for panel in entry.parameters.panels:
        for model in panel.models:
            labels = {"panel": panel.title, "model": model, "method": entry.models[model].labels["method"]}
            reason = inputs.missing(model)
            frame = inputs.curves(model) if reason is None else pd.DataFrame([{"reason": reason}])
            frames.append(frame.assign(**labels))
    columns = ["panel", "model", "method", "seed", "epoch", "test_images", *MEASURES, "reason"]
    return pd.concat(frames, ignore_index=True).reindex(columns=columns)


def draw(entry: ArtifactEntry, inputs: Inputs) -> Drawing:
    """Draw the mean over seeds, with a band from the lowest to the highest."""
    data, titles = collect(entry, inputs), [panel.title for panel in entry.parameters.panels]
    places = list(itertools.product(titles, MEASURES))
    curves = data.melt(["panel", "method", "epoch", "reason"], list(MEASURES), "measure")
    curves["place"] = list(zip(curves["panel"], curves["measure"], strict=True))
    grid = style.panels(curves, 2.6, 2.3, col="place", col_order=places, sharey=False)
    looks = style.methods(data["method"])
    for number, place in enumerate(places):
        axis, shown = grid.axes_dict[place], curves[curves["place"] == place]
        axis.set_title(f"({chr(ord('a') + number)}) {place[0]}")
        if shown["value"].isna().all():
            style.absent(axis, shown["reason"].dropna().tolist())
        else:
            spread = {"errorbar": ("pi", 100), "err_style": "band"}
            markers = {"markevery": max(1, shown["epoch"].nunique() // 8)}
            style.lines(axis, shown, "epoch", "value", looks, "method", **spread, **markers)
            axis.set_xlabel("epoch")
        axis.set_ylabel(MEASURES[place[1]])
    keys = style.handles(looks, drawn=set(data.dropna(subset=["epoch"])["method"]))
    grid.figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), frameon=False)
    style.stamp(grid.figure, entry.stamp)
    return Drawing(data, figure=grid.figure)
