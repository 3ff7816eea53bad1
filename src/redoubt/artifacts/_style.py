"""One look for all figures: a colour, marker and line for every method, in print and for colour-blind readers."""

from __future__ import annotations

import colorsys
import hashlib
import io
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colors, ticker
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from redoubt.artifacts.interface import Drawing
from redoubt.errors import RedoubtError
from redoubt.study.entries.artifact import ArtifactEntry, Look

DASHES = {"-": (), "--": (3.7, 1.6), "-.": (6.4, 1.6, 1, 1.6), ":": (1, 1.65), "- .": (5, 1, 1, 1), ". .": (3, 1)}


def _look(color: str, marker: str, line: str) -> dict[str, Any]:
    return {"color": color, "marker": marker, "dashes": DASHES[line]}


SERIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = ["o", "s", "^", "D", "v", "P"]
# Methods without a look take these; Tol's muted palette comes before Okabe and Ito's, which the given looks use.
FURTHER = ["#332288", "#882255", "#999933", "#44AA99", "#AA4499", "#117733", *SERIES]

RC = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "svg.fonttype": "none",
    "svg.hashsalt": "redoubt",
    "font.family": "DejaVu Sans",
}
matplotlib.use("agg")
matplotlib.rcParams.update(matplotlib.RcParams(RC))

# -- looks ------------------------------------------------------------------------------------------------------------


def methods(names: Iterable[str], known: Mapping[str, Look]) -> dict[str, dict[str, Any]]:
    """Return colour, marker and dashes of each method of a figure.

    Those that are known look the same in every figure. Any other one takes its look from a digest of its name; where
    the figure has that colour already, the next free one.
    """
    names = list(dict.fromkeys(names))
    looks = {name: _look(**known[name].model_dump()) for name in names if name in known}
    for name in sorted(set(names) - set(known)):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        tries = [divmod(number + step, len(FURTHER)) for step in range(len(FURTHER) * len(MARKERS))]
        order = [_look(FURTHER[color], MARKERS[turn % 6], [*DASHES][turn % 5]) for turn, color in tries]
        colors_used, used = {look["color"] for look in looks.values()}, list(looks.values())
        free = [look for look in order if look["color"] not in colors_used] or [
            look for look in order if look not in used
        ]
        looks[name] = (free or order)[0]
    return {name: looks[name] for name in names}


def variant(look: dict[str, Any], position: int) -> dict[str, Any]:
    """Return the look of one of several models of a method: another shade, marker and line for each further one.

    Args:
        look: of the method.
        position: of the model among those of its method, from 0; from 5 on looks repeat.
    """
    place = position % 5
    if not place:
        return look
    hue, lightness, saturation = colorsys.rgb_to_hls(*colors.to_rgb(look["color"]))
    turn, shade = [(0.0, 0.45), (0.0, -0.5), (0.2, 0.0), (0.2, 0.45)][place - 1]
    lightness += shade * (1 - lightness if shade > 0 else lightness)
    markers = [marker for marker in MARKERS if marker != look["marker"]]
    color = colors.to_hex(colorsys.hls_to_rgb((hue + turn) % 1.0, lightness, saturation))
    return _look(color, markers[place - 1], ["--", "-.", "- .", ":"][place - 1])


def variants(models: list[str], entry: ArtifactEntry) -> dict[str, dict[str, Any]]:
    """Return the look of each of the models of a panel, as an artifact's entry labels them."""
    counts: Counter[str]
    labels = {model: entry.models[model].labels["method"] for model in models}
    base, counts, looks = methods(labels.values(), entry.looks), Counter(), {}
    for model, method in labels.items():
        looks[model] = variant(base[method], counts[method])
        counts[method] += 1
    return looks


def series(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the looks of curves that are not methods, by their place."""
    return {
        name: _look(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)], "-")
        for place, name in enumerate(dict.fromkeys(names))
    }


def name(labels: dict[str, str]) -> str:
    """Return what legends call a model: its label `name`, or network and method where there is none."""
    return labels.get("name") or f"{labels['network']} {labels['method']}"


# -- lines, bars and their panels -------------------------------------------------------------------------------------

INTERVAL = {"estimator": "median", "errorbar": ("pi", 100)}
"""Makes seaborn draw each estimate of `with_intervals` with its interval: it computes no statistics itself."""


def with_intervals(data: pd.DataFrame) -> pd.DataFrame:
    """Return three rows for each estimate: `value` is its lower end, itself and its upper end."""
    ends = ["ci_low", "reproduced", "ci_high"]
    return data.melt([name for name in data if name not in ends], ends, value_name="value")


def panels(data: pd.DataFrame, width: float, height: float, **facets: Any) -> sns.FacetGrid:
    """Return a grid of panels, a blank one for each value of the columns `row` and `col` of `data`.

    Sizes are inches of one panel.
    """
    panel_grid = sns.FacetGrid(data, height=height, aspect=width / height, **facets)
    plt.close(panel_grid.figure)  # it belongs to the caller
    panel_grid.figure.set_layout_engine("constrained")
    return panel_grid


def lines(
    axis: Axes, data: pd.DataFrame, x: str, y: str, looks: dict[str, dict[str, Any]], by: str, **options: Any
) -> None:
    """Draw a line for each value of the column `by`, in the order and with the looks of `looks`."""
    if (data := data.dropna(subset=[y])).empty:
        return
    color, marker, dashes = ({key: look[name] for key, look in looks.items()} for name in ("color", "marker", "dashes"))
    options = {"style": by, "markers": marker, "dashes": dashes, "err_style": "bars", "legend": False} | options
    if options["err_style"] == "bars":
        options |= {"err_kws": {"capsize": 1.5, "elinewidth": 0.8}}
    present = [key for key in looks if (data[by] == key).any()]
    order = {"hue_order": present, "style_order": present}
    sns.lineplot(data, x=x, y=y, hue=by, palette=color, ax=axis, **order, **options)
    axis.set(xlabel="", ylabel="")


HOLLOW = {"dashes": False, "linestyle": "none", "fillstyle": "none", "markersize": 7, "errorbar": None}
HOLLOW |= {"markeredgecolor": "auto", "markeredgewidth": 0.8}
"""Options of `lines` for printed numbers: hollow markers without a line."""


DASHED = {"markers": False, "errorbar": None, "linewidth": 1.1}
"""Options of `lines` for what strong attacks leave: thin dashes without markers."""


def dashed(looks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return looks of the same colours, in short dashes."""
    return {key: look | {"dashes": (2, 1.4)} for key, look in looks.items()}


def handles(
    looks: dict[str, dict[str, Any]],
    drawn: Iterable[str],
    names: Any = None,
    printed: bool = False,
    strong: bool = False,
) -> list[Line2D]:
    """Return the entries of a legend.

    Args:
        looks: of the lines, by key.
        drawn: keys of lines that are drawn; others are listed as not run.
        names: what the legend calls each key, when that is not the key itself.
        printed: whether hollow markers show printed numbers.
        strong: whether dashed lines show what strong attacks leave.
    """
    edge: dict[str, Any] = {"markeredgecolor": "#ffffff", "markeredgewidth": 0.75}
    entries = []
    for key, look in looks.items():
        label = key if names is None else names[key]
        entries.append(Line2D([], [], label=label if key in drawn else f"{label} (not run)", **edge, **look))
    if printed:
        hollow: dict[str, Any] = {
            "color": "#666666",
            "marker": "o",
            "linestyle": "none",
            "fillstyle": "none",
            "markersize": 7,
        }
        entries.append(Line2D([], [], label="as printed", **hollow))
    if strong:
        (look,) = dashed({"": {"color": "#666666"}}).values()
        entries.append(Line2D([], [], label="under strong attacks", linewidth=DASHED["linewidth"], **look))
    return entries


def legends(grid: sns.FacetGrid, keys: list[list[Line2D]]) -> None:
    """Write one legend over all panels if they have the same lines, else one under each column."""
    looks = [{str(key.get_label()): (key.get_color(), key.get_marker()) for key in part} for part in keys]
    if all(look == looks[0] for look in looks):
        fit = int(72 * grid.figure.get_figwidth() / (40 + 5 * max(map(len, looks[0]))))  # in points, roughly
        columns = max(1, min(len(keys[0]), fit))
        grid.figure.legend(handles=keys[0], loc="outside upper center", ncols=columns, frameon=False)
        return
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.28), "ncols": 2}
    for axis, part in zip(grid.axes[-1], keys, strict=True):
        axis.legend(handles=part, frameon=False, fontsize=7, **place)


def in_percent(axis: Axes) -> None:
    """Write the values of the y axis, shares in [0, 1], in percent."""
    axis.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))


# -- figures ----------------------------------------------------------------------------------------------------------


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes (rows, columns); sizes are inches of one panel."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def gallery(rows: int, columns: int, side: float, gaps: tuple[float, float], top: float) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes (rows, columns), all blank, for square pictures at fixed places.

    Args:
        rows: of pictures.
        columns: of pictures.
        side: inches of a picture.
        gaps: inches beside and under it, for what is written there.
        top: inches over the first row.
    """
    across, down = (side + gap for gap in gaps)
    width, height = 0.3 + columns * across, top + rows * down + 0.2
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False)
    for (row, column), axis in np.ndenumerate(axes):
        corner = 0.3 + column * across, height - top - row * down - side
        axis.set_position((corner[0] / width, corner[1] / height, side / width, side / height))
        axis.set_axis_off()
    return figure, axes


def stamp(figure: Figure, text: str) -> None:
    """Write the scale's stamp under a figure, so that it travels with the picture."""
    figure.supxlabel(text, fontsize=7, color="#666666", x=0.99, ha="right")


def absent(axis: Axes, reasons: list[str]) -> None:
    """Write into an empty panel why it is empty, without an effect on the layout."""
    assert isinstance(axis.figure, Figure)
    points = axis.get_position().width * axis.figure.get_figwidth() * 72
    text = ["not run", *(textwrap.fill(reason, max(16, int(points / 4))) for reason in dict.fromkeys(reasons))]
    place: dict[str, Any] = {"transform": axis.transAxes, "ha": "center", "va": "center", "in_layout": False}
    axis.text(0.5, 0.5, "\n".join(text), fontsize=7, color="#666666", **place)
    axis.grid(False)
    axis.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)


def absent_picture(axis: Axes, reason: str, width: int) -> None:
    """Write in place of a small picture why it is missing, in lines of `width` characters, outside of the layout."""
    axis.set_axis_off()
    text = textwrap.fill(f"not run: {reason}", width)
    place: dict[str, Any] = {"transform": axis.transAxes, "ha": "left", "va": "top", "in_layout": False}
    axis.text(0.0, 1.0, text, fontsize=6, color="#666666", **place)


ROUNDING = 1e-5
"""Differences below this share of a value are taken for rounding: one float32 has 6e-8, sums of many have more."""


def steady(figure: Figure) -> None:
    """Widen every axis along which all that is drawn is one number but for rounding, so that it magnifies none."""
    for axes, name in ((axes, name) for axes in figure.axes for name in "xy"):
        ends = getattr(axes, f"get_{name}lim")()
        middle = sum(ends) / 2
        if abs(ends[1] - ends[0]) < ROUNDING * abs(middle):
            getattr(axes, f"set_{name}lim")(middle - abs(middle) / 20, middle + abs(middle) / 20)


def picture(drawing: Drawing, kind: str) -> bytes:
    """Return a figure as a file of a `kind`, svg, png or pdf, with the same bytes every time.

    Raises:
        RedoubtError: a title or label contains `$...$` that is not valid math text.
    """
    steady(drawing.figure)
    content = io.BytesIO()
    metadata = {{"svg": "Date", "png": "Software", "pdf": "CreationDate"}[kind]: None}
    try:
        drawing.figure.savefig(content, format=kind, metadata=metadata, bbox_inches="tight", pad_inches=0.05)
    except ValueError as error:
        if "Parse" not in str(error):  # what matplotlib's parser of math text calls its errors
            raise
        cause = " ".join(str(error).split())[:200]
        raise RedoubtError(
            f"a title or label contains $...$ that is not valid math text ({cause}); write \\$ for a dollar"
        ) from None
    return content.getvalue()
