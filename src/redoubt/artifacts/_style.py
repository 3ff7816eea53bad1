"""One look for all figures: a fixed colour, marker and line for every method, in print and for colour-blind readers."""

from __future__ import annotations

import colorsys
import textwrap

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure

from redoubt.errors import RedoubtError

# Okabe and Ito's palette, told apart by marker and line too.
METHODS = {
    "Reference": {"color": "#000000", "marker": "s", "linestyle": ":"},
    "Clean": {"color": "#56B4E9", "marker": "v", "linestyle": "--"},
    "Par. Train": {"color": "#E69F00", "marker": "D", "linestyle": "-."},
    "Adv. Train": {"color": "#009E73", "marker": "^", "linestyle": (0, (5, 1, 1, 1))},
    "DeepDefense": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "Undefended": {"color": "#000000", "marker": "s", "linestyle": "--"},
    "PeerNet": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "BReLU + GDA": {"color": "#009E73", "marker": "^", "linestyle": "-."},
    "MagNet": {"color": "#CC79A7", "marker": "D", "linestyle": (0, (5, 1, 1, 1))},
    "PGD training": {"color": "#E69F00", "marker": "v", "linestyle": (0, (3, 1))},
}
SERIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = ["o", "s", "^", "D", "v", "P"]

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
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "redoubt",
    "font.family": "DejaVu Sans",
}
matplotlib.rcParams.update(RC)


def method(name: str) -> dict:
    """Return colour, marker and line of a method, the same in every figure.

    Raises:
        RedoubtError: the method has no style yet.
    """
    if name not in METHODS:
        raise RedoubtError(f"labels.method: {name!r} has no style; add it to METHODS in artifacts/_style.py")
    return METHODS[name]


def variant(name: str, position: int) -> dict:
    """Return the style of one of several models of a method: another shade, marker and line for each further one.

    Args:
        name: of the method.
        position: of the model among those of its method, from 0; from 5 on styles repeat.
    """
    own, place = method(name), position % 5
    if not place:
        return own
    hue, lightness, saturation = colorsys.rgb_to_hls(*colors.to_rgb(own["color"]))
    turn, shade = [(0.0, 0.45), (0.0, -0.5), (0.2, 0.0), (0.2, 0.45)][place - 1]
    lightness += shade * (1 - lightness if shade > 0 else lightness)
    markers = [marker for marker in MARKERS if marker != own["marker"]]
    line = ["--", "-.", (0, (5, 1, 1, 1)), ":"][place - 1]
    color = colorsys.hls_to_rgb((hue + turn) % 1.0, lightness, saturation)
    return {"color": color, "marker": markers[place - 1], "linestyle": line}


def variants(models: list[str], entry: dict) -> dict[str, dict]:
    """Return the style of each of the models of a panel, as an artifact's entry labels them."""
    seen: dict[str, int] = {}
    found = {}
    for model in models:
        name = entry["models"][model]["labels"]["method"]
        found[model] = variant(name, seen.get(name, 0))
        seen[name] = seen.get(name, 0) + 1
    return found


def name(labels: dict[str, str]) -> str:
    """Return what legends call a model: its own name where it has one, or network and method."""
    return labels.get("name") or f"{labels['network']} {labels['method']}"


def series(position: int) -> dict:
    """Return colour and marker of the series at a position, for curves that are not methods."""
    return {"color": SERIES[position % len(SERIES)], "marker": MARKERS[position % len(MARKERS)]}


def grid(rows: int, columns: int, width: float, height: float):
    """Return a figure and its axes (rows, columns); sizes are inches of one panel."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def gallery(rows: int, columns: int, side: float, gaps: tuple[float, float], top: float):
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


def absent(axis, reasons: list[str]) -> None:
    """Say in an empty panel why there is nothing to see, in lines that fit in and take no room from other panels."""
    points = axis.get_position().width * axis.figure.get_figwidth() * 72
    lines = ["not run", *(textwrap.fill(reason, max(16, int(points / 4))) for reason in dict.fromkeys(reasons))]
    place = {"transform": axis.transAxes, "ha": "center", "va": "center", "in_layout": False}
    axis.text(0.5, 0.5, "\n".join(lines), fontsize=7, color="#666666", **place)
    axis.set_xticks([])
    axis.set_yticks([])


def told(axis, reason: str, width: int) -> None:
    """Say in place of a small picture why it is missing, in lines of `width` characters that take no room."""
    axis.set_axis_off()
    text = textwrap.fill(f"not run: {reason}", width)
    place = {"transform": axis.transAxes, "ha": "left", "va": "top", "in_layout": False}
    axis.text(0.0, 1.0, text, fontsize=6, color="#666666", **place)


def save(figure: Figure, path, kind: str) -> None:
    """Write a figure as svg or png with the same bytes every time."""
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(path, format=kind, metadata=metadata, bbox_inches="tight", pad_inches=0.05)
