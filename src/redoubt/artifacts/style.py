"""One look for all figures: a fixed colour, marker and line for every method, in print and for colour-blind readers."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from redoubt.errors import RedoubtError

# Okabe and Ito's palette, told apart by marker and line too.
METHODS = {
    "Reference": {"color": "#000000", "marker": "s", "linestyle": ":"},
    "Clean": {"color": "#56B4E9", "marker": "v", "linestyle": "--"},
    "Par. Train": {"color": "#E69F00", "marker": "D", "linestyle": "-."},
    "Adv. Train": {"color": "#009E73", "marker": "^", "linestyle": (0, (5, 1, 1, 1))},
    "DeepDefense": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
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
plt.rcParams.update(RC)


def method(name: str) -> dict:
    """Return colour, marker and line of a method, the same in every figure.

    Raises:
        RedoubtError: the method has no style yet.
    """
    if name not in METHODS:
        raise RedoubtError(f"labels.method: {name!r} has no style; add it to METHODS in src/redoubt/artifacts/style.py")
    return METHODS[name]


def series(position: int) -> dict:
    """Return colour and marker of the series at a position, for curves that are not methods."""
    return {"color": SERIES[position % len(SERIES)], "marker": MARKERS[position % len(MARKERS)]}


def grid(rows: int, columns: int, width: float, height: float):
    """Return a figure and its axes (rows, columns); sizes are inches of one panel."""
    size = (width * columns, height * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")


def stamp(figure: Figure, text: str) -> None:
    """Write the scale's stamp under a figure, so that it travels with the picture."""
    figure.supxlabel(text, fontsize=7, color="#666666", x=0.99, ha="right")


def absent(axis, reasons: list[str]) -> None:
    """Say in an empty panel why there is nothing to see."""
    text = "not run\n" + "\n".join(dict.fromkeys(reasons))
    axis.text(
        0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=7, color="#666666", wrap=True
    )
    axis.set_xticks([])
    axis.set_yticks([])


def save(figure: Figure, path, kind: str) -> None:
    """Write a figure as svg or png with the same bytes every time."""
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(path, format=kind, metadata=metadata, bbox_inches="tight", pad_inches=0.05)
