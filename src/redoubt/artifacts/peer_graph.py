"""Some pixels of an image and the nearest peer pixels of each: their places, features and attention scores.

Source: PeerNets, figure 1. It reads the inspection `peer-graph`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from redoubt.artifacts._pictures import class_name, picture, show
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.lazily import lazy, np, pd
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from redoubt.artifacts import _style as style
else:
    style = lazy("redoubt.artifacts._style")
patches = lazy("matplotlib.patches")

KIND = "figure"

COLORS = ["#D55E00", "#009E73", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito's red, green, blue first
FACTS = ["model", "name", "seed", "index", "label", "class", "layer", "draw", "pixel", "row", "column", "rank"]
LINK = ["peer", "peer_row", "peer_column", "similarity", "attention"]


class Parameters(Strict):
    """The inspection, its model, and what is shown of it."""

    attack: str = Field(description="a peer-graph inspection that keeps images")
    model: str
    image: Annotated[int, Field(ge=0)] = Field(0, description="position among the inspected images")
    neighbours: Annotated[int, Field(gt=0)] = Field(5, description="nearest neighbours shown")
    window: Annotated[int, Field(gt=0)] | None = Field(
        None, description="image pixels shown around a neighbour, to each side; the whole peer image when null"
    )


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(parameters.model, parameters.attack)]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    return [dict.fromkeys([*FACTS, *LINK, "reason"], ANY) | {"model": parameters.model}]


def collect(entry: ArtifactEntry[Parameters], inputs: Inputs) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return one row for each chosen pixel (rank 0) and each of its neighbours, and what is drawn.

    That is `image` and `peers`, pictures, and `cell`, rows and columns that a pixel of the map stands for.
    """
    options = entry.parameters
    model, attack = options.model, options.attack
    facts = {"model": model, "name": style.name(entry.models[model].labels)}
    if (reason := inputs.missing(model, attack)) is not None:
        return pd.DataFrame([facts | {"reason": reason}]).reindex(columns=[*FACTS, *LINK, "reason"]), {}
    frame = inputs.rows(model, attack)
    shape, classes = frame.attrs["shape"], frame.attrs["classes"]
    frame = frame[frame["seed"] == frame["seed"].min()]
    if "clean_picture" not in frame or "attention" not in frame:
        raise RedoubtError(f"attack: {attack} has no graph or no pictures; give a peer-graph with keep_images: true")
    if options.image >= len(frame):
        raise RedoubtError(f"image: {options.image} is not one of the {len(frame)} inspected images")
    inspected = frame.iloc[options.image]
    shared = inputs.shared(model, attack)[inspected["seed"]]
    facts |= {key: inspected[key] for key in ("seed", "index", "label", "layer", "draw")}
    rows = _rows(facts | {"class": class_name(classes, inspected["label"])}, inspected, options.neighbours)
    drawn = {"image": picture(inspected["clean_picture"], shape), "cell": shared["cell"].tolist()}
    drawn["peers"] = [picture(peer, shape) for peer in shared["peers"]]
    features = [name for name in rows[0] if name.startswith("feature_")]
    return pd.DataFrame(rows).reindex(columns=[*FACTS, *LINK, *features, "reason"]), drawn


def _rows(facts: dict[str, Any], inspected: pd.Series, shown: int) -> list[dict[str, Any]]:
    places, channels = np.reshape(inspected["places"], (-1, 2)), int(inspected["channels"])
    features = np.reshape(inspected["features"], (len(places), channels))
    attention, similarity, peers = (
        np.reshape(inspected[name], (len(places), -1)) for name in ("attention", "similarity", "peers")
    )
    peer_places = np.reshape(inspected["peer_places"], (*attention.shape, 2))
    peer_features = np.reshape(inspected["peer_features"], (*attention.shape, channels))
    rows = []
    for pixel, (row, column) in enumerate(places):
        chosen = facts | {"pixel": pixel, "row": row, "column": column, "rank": 0}
        rows.append(chosen | _named(features[pixel]))
        for rank in range(min(shown, attention.shape[1])):
            link = {"rank": rank + 1, "peer": peers[pixel, rank]}
            link |= dict(zip(("peer_row", "peer_column"), peer_places[pixel, rank], strict=True))
            link |= {"similarity": similarity[pixel, rank], "attention": attention[pixel, rank]}
            rows.append(chosen | link | _named(peer_features[pixel, rank]))
    return rows


def _named(features: np.ndarray) -> dict[str, float]:
    return {f"feature_{channel}": value for channel, value in enumerate(features)}


def span(centre: float, cell: float) -> tuple[int, int]:
    """Return the first and the last image row (or column) that a map pixel stands for: those nearest to its centre."""
    return math.floor(centre - cell / 2) + 1, math.floor(centre + cell / 2)


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Draw the image with the chosen pixels at the left, and for each a line of its neighbours over their features."""
    data, drawn = collect(entry, inputs)
    if not drawn:
        figure, axes = style.grid(1, 1, 5.0, 1.2)
        style.absent(axes[0][0], data["reason"].tolist())
        style.stamp(figure, entry.stamp)
        return Drawing(data, figure=figure)
    pixels, ranks = int(data["pixel"].max()) + 1, int(data["rank"].max()) + 1
    figure = style.Figure(figsize=(2.6 + 1.15 * ranks, 1.8 * pixels))
    figure.set_layout_engine("constrained", h_pad=0.01, w_pad=0.03, hspace=0.0, wspace=0.0)
    ratios = {"width_ratios": [2.2, *[1.0] * ranks], "height_ratios": [2.0, 1.0] * pixels}
    lines = figure.add_gridspec(2 * pixels, 1 + ranks, **ratios)
    centre = figure.add_subplot(lines[:, 0])
    show(centre, drawn["image"])
    centre.set_title(f"{data['class'].iloc[0]}\n{data['name'].iloc[0]}, after {data['layer'].iloc[0]}", fontsize=8)
    for pixel in range(pixels):
        part, color = data[data["pixel"] == pixel], COLORS[pixel % len(COLORS)]
        _mark(centre, part.iloc[0]["row"], part.iloc[0]["column"], drawn["cell"], color)
        names = [name for name in data if name.startswith("feature_")]
        query = part.iloc[0][names].to_numpy(dtype=float)
        first = None
        for place, (_, link) in enumerate(part.iterrows()):
            above = figure.add_subplot(lines[2 * pixel, 1 + place])
            _patch(above, link, drawn, color, entry.parameters.window)
            below = figure.add_subplot(lines[2 * pixel + 1, 1 + place], sharey=first)
            first = first or below
            _features(below, link[names].to_numpy(dtype=float), query, color)
            below.tick_params(labelleft=place == 0)
    style.stamp(figure, entry.stamp)
    return Drawing(data, figure=figure)


def _patch(axis: Axes, link: pd.Series, drawn: dict[str, Any], color: str, window: int | None) -> None:
    """Show the place of a neighbour in its peer under its attention score, or for rank 0 the pixel itself."""
    chosen = link["rank"] == 0
    row, column = (link["row"], link["column"]) if chosen else (link["peer_row"], link["peer_column"])
    pictures = [*drawn["peers"], drawn["image"]]  # a pixel may be linked to its own image
    show(axis, drawn["image"] if chosen else pictures[int(link["peer"])])
    _mark(axis, row, column, drawn["cell"], color)
    if window is not None:
        axis.set_xlim(column - window - 0.5, column + window + 0.5)
        axis.set_ylim(row + window + 0.5, row - window - 0.5)
    axis.set_title("pixel" if chosen else f"{link['attention']:.3f}", fontsize=7, color=color)


def _mark(axis: Axes, row: float, column: float, cell: list[float], color: str) -> None:
    """Frame the image pixels that a pixel of the map stands for, so that they stay visible."""
    (top, bottom), (left, right) = span(row, cell[0]), span(column, cell[1])
    place = ((left - 1.0, top - 1.0), right - left + 2.0, bottom - top + 2.0)
    for edge, width in (("#ffffff", 2.4), (color, 1.4)):
        frame = patches.Rectangle(*place, fill=False, edgecolor=edge, linewidth=width, clip_on=False)
        axis.add_patch(frame)


def _features(axis: Axes, values: np.ndarray, query: np.ndarray, color: str) -> None:
    """Plot a pixel's features over those of the chosen pixel, in grey."""
    axis.bar(range(len(query)), query, width=1.0, color="#cccccc")
    axis.step(range(len(values)), values, where="mid", color=color, linewidth=0.9)
    axis.set_xticks([])
    axis.tick_params(labelsize=6, length=2)
    axis.grid(False)
    axis.margins(x=0.01)
