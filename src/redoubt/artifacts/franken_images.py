"""Images over the Franken-images that peer networks make of them: every pixel a weighted sum of peer pixels.

Under an image is its class. Under a Franken-image is the class that the model predicts, in red where that differs from
the prediction for the image itself, which is in brackets.
Source: PeerNets, figure 3. It reads the inspection `peer-graph`.
"""

from __future__ import annotations

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
    from redoubt.artifacts import _style as style
else:
    style = lazy("redoubt.artifacts._style")

KIND = "figure"

COPIED = ["seed", "layer", "draw", "index", "label", "clean_label", "franken_label"]
COLUMNS = ["model", "name", *COPIED, "class", "seen", "predicted", "difference", "reason"]


class Parameters(Strict):
    """The inspection, its models from top to bottom, and how many images."""

    attack: str = Field(description="a peer-graph inspection that keeps images")
    models: list[str]
    images: Annotated[int, Field(gt=0)] = Field(8, description="number of images, the first ones that were inspected")


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, parameters.attack) for model in parameters.models]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    return [dict.fromkeys(COLUMNS, ANY) | {"model": model} for model in parameters.models]


def collect(entry: ArtifactEntry[Parameters], inputs: Inputs) -> tuple[pd.DataFrame, dict[int, np.ndarray], dict]:
    """Return one row per model and image, of a model's first seed, and the pictures: images and Franken-images.

    Those are by index, and by model and index. `difference` is the root mean square over the elements of an image, in
    units of [0, 1]. A model that was not run has one row with its reason.
    """
    options, rows, images, frankens = entry.parameters, [], {}, {}
    for model in options.models:
        facts = {"model": model, "name": style.name(entry.models[model].labels)}
        if (reason := inputs.missing(model, options.attack)) is not None:
            rows.append({**facts, "reason": reason})
            continue
        frame = inputs.rows(model, options.attack)
        shape, classes = frame.attrs["shape"], frame.attrs["classes"]
        if "clean_picture" not in frame or "franken" not in frame:
            raise RedoubtError(f"attack: {options.attack} has no Franken-images or no pictures; set keep_images")
        for row in frame[frame["seed"] == frame["seed"].min()].head(options.images).to_dict("records"):
            clean, franken = (np.asarray(row[name], dtype=float) for name in ("clean_picture", "franken"))
            record = facts | {key: row[key] for key in COPIED}
            record |= {"class": class_name(classes, row["label"])}
            record |= {"seen": class_name(classes, row["clean_label"])}
            record |= {"predicted": class_name(classes, row["franken_label"])}
            rows.append(record | {"difference": float(np.sqrt(np.square(franken - clean).mean()))})
            images[row["index"]] = picture(clean, shape)
            frankens[model, row["index"]] = picture(franken, shape)
    return pd.DataFrame(rows).reindex(columns=COLUMNS), images, frankens


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Draw the images in the first line, and a line of Franken-images for each model."""
    data, images, frankens = collect(entry, inputs)
    models = entry.parameters.models
    figure, axes = style.grid(1 + len(models), max(1, len(images)), 1.0, 1.26)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (index, image) in zip(axes[0], images.items(), strict=False):
        axis.set_axis_on()
        show(axis, image)
        axis.set_xlabel(data[data["index"] == index]["class"].iloc[0], fontsize=7)
    if images:
        axes[0][0].set_ylabel("image", fontsize=7)
    for line, model in zip(axes[1:], models, strict=True):
        part = data[data["model"] == model]
        if pd.notna(part["reason"].iloc[0]):
            style.absent_picture(line[0], f"{part['name'].iloc[0]}: {part['reason'].iloc[0]}", 60)
            continue
        places = {index: axis for axis, index in zip(line, images, strict=True)}
        for row in part.to_dict("records"):
            axis = places[row["index"]]
            axis.set_axis_on()
            show(axis, frankens[model, row["index"]])
            changed = row["franken_label"] != row["clean_label"]
            text = f"sees {row['predicted']}\n(image: {row['seen']})"
            axis.set_xlabel(text, fontsize=7, color="#B00020" if changed else "#222222")
        line[0].set_ylabel(part["name"].iloc[0], fontsize=7)
    style.stamp(figure, entry.stamp)
    return Drawing(data, figure=figure)
