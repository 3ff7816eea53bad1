"""Adversarial examples of several attacks and models beside each other, with their perturbations and predicted classes.

Every image has two lines: its examples, and under them the perturbations, amplified by the factor shown. Under the
clean image are its class and the class that each model predicts for it. The class of an example is red if it is fooled.
Source: PeerNets, figures 6 and 9 (arXiv v1: 5 and 10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from redoubt.artifacts._pictures import amplified, class_name, norms, picture, show, times
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

KIND = "figure"

FACTS = ["index", "label", "class", "clean_label", "seen", "adversarial_label", "predicted", "fooled", "l2", "linf"]
COLUMNS = ["attack", "title", "model", "name", *FACTS, "amplification", "reason"]


class Shown(Strict):
    """An attack, and the title over its examples."""

    title: str
    attack: str


class Parameters(Strict):
    """Attacks from left to right, in each the models from left to right."""

    attacks: list[Shown]
    models: list[str]
    images: Annotated[int, Field(gt=0)] = 3
    choose: Literal["fooled", "first"] = Field(
        "fooled",
        description="images that most attacks on most models fool, or the first; right on all models if any is",
    )


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, shown.attack) for shown in parameters.attacks for model in parameters.models]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    places = [(shown, model) for shown in parameters.attacks for model in parameters.models]
    known = [{"attack": shown.attack, "title": shown.title, "model": model} for shown, model in places]
    return [dict.fromkeys(COLUMNS, ANY) | cell for cell in known]


def chosen(frames: list[pd.DataFrame], count: int, choose: str) -> list[int]:
    """Return positions of the images to show, at most `count`, in their order in the test split.

    Args:
        frames: rows of each attack on each model; only images that all of them hold are shown.
        count: how many.
        choose: `fooled`: those that most frames hold as fooled, earlier ones first; `first`: the earliest. Either way
            images that are labelled correctly in all frames come before others.
    """
    joint = pd.concat(frames)
    joint = joint[joint["index"].map(joint["index"].value_counts()) == len(frames)]
    right = (joint["clean_label"] == joint["label"]).groupby(joint["index"]).all()
    order = pd.DataFrame({"right": right, "fooled": joint.groupby("index")["success"].sum()}).reset_index()
    keys = ["right", "fooled"] if choose == "fooled" else ["right"]
    order = order.sort_values([*keys, "index"], ascending=[False] * len(keys) + [True], kind="stable")
    return sorted(order["index"].head(count).tolist())


def collect(entry: ArtifactEntry[Parameters], inputs: Inputs) -> tuple[pd.DataFrame, dict, dict]:
    """Return one row per attack, model and image, and the pictures of clean images (by index) and examples.

    An example's pictures are those of itself and of its perturbation, by attack, model and index. An attack that was
    not run on a model has one row with its reason.
    """
    options, rows, frames = entry.parameters, [], {}
    for need in needs(options):
        if need.attack is not None and inputs.missing(need.model, need.attack) is None:
            frame = inputs.rows(need.model, need.attack)
            attrs = frame.attrs
            if frame.duplicated(["seed", "index"]).any():
                raise RedoubtError(f"attacks: {need.attack} has several rows for an image; show an attack with one")
            frames[need] = frame[frame["seed"] == frame["seed"].min()]
            frames[need].attrs = attrs
    images = chosen([frame.copy() for frame in frames.values()], options.images, options.choose) if frames else []
    clean, examples = {}, {}
    for shown in options.attacks:
        for model in options.models:
            need = Need(model, shown.attack)
            facts = {**shown.model_dump(), "model": model, "name": style.name(entry.models[model].labels)}
            if need not in frames:
                rows.append(facts | {"reason": inputs.missing(model, shown.attack)})
                continue
            frame = frames[need].set_index("index")
            shape, classes = frame.attrs["shape"], frame.attrs["classes"]
            for image in images:
                row = frame.loc[image]
                v = np.asarray(row["picture"], dtype=float) - np.asarray(row["clean_picture"], dtype=float)
                perturbation, factor = amplified(v, shape)
                clean[image] = picture(row["clean_picture"], shape)
                examples[shown.attack, model, image] = picture(row["picture"], shape), perturbation
                facts |= {"index": image, "fooled": int(row["success"]), "amplification": factor if v.any() else None}
                facts |= {key: row[key] for key in ("label", "clean_label", "adversarial_label")}
                facts |= {"class": class_name(classes, row["label"]), "reason": None}
                facts |= {"seen": class_name(classes, row["clean_label"])}
                facts |= {"predicted": class_name(classes, row["adversarial_label"])}
                rows.append(facts | {norm: 255.0 * row[norm] for norm in ("l2", "linf")})
    return pd.DataFrame(rows).reindex(columns=COLUMNS), clean, examples


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Draw the examples: the clean image at the left, then those of each attack, a column for each model."""
    data, clean, examples = collect(entry, inputs)
    options = entry.parameters
    needed = needs(options)
    figure, axes = style.gallery(2 * max(1, len(clean)), 1 + len(needed), 1.0, (0.14, 0.34), 0.35)
    titles: dict[str | None, str] = {shown.attack: shown.title for shown in options.attacks}
    for column, need in enumerate(needed, start=1):
        part = data[(data["attack"] == need.attack) & (data["model"] == need.model)]
        axes[0][column].set_title(f"{titles[need.attack]}\n{part['name'].iloc[0]}", fontsize=7)
        if pd.notna(part["reason"].iloc[0]):
            style.absent_picture(axes[0][column], part["reason"].iloc[0], 22)
            continue
        for line, (_, row) in enumerate(part.iterrows()):
            _example(axes[2 * line][column], axes[2 * line + 1][column], row, examples)
    for line, image in enumerate(clean):
        axes[2 * line][0].set_axis_on()
        show(axes[2 * line][0], clean[image])
        part = data[data["index"] == image]
        axes[2 * line][0].set_xlabel(part["class"].iloc[0], fontsize=7)
        seen = [f"{name}\nsees {label}" for name, label in part.groupby("name", sort=False)["seen"].first().items()]
        below = axes[2 * line + 1][0]
        below.text(0.5, 0.95, "\n\n".join(seen), transform=below.transAxes, ha="center", va="top", fontsize=6)
    if clean:
        axes[0][0].set_title("clean", fontsize=7)
    style.stamp(figure, entry.stamp)
    return Drawing(data, figure=figure)


def _example(above: Axes, below: Axes, row: pd.Series, examples: dict) -> None:
    """Show an example over its perturbation; an image that was not fooled has neither norms nor a perturbation."""
    image, perturbation = examples[row["attack"], row["model"], row["index"]]
    for axis in (above, below):
        axis.set_axis_on()
    show(above, image)
    above.set_xlabel(row["predicted"], fontsize=7, color="#B00020" if row["fooled"] else "#222222")
    if pd.isna(row["amplification"]):
        below.set_axis_off()
        below.text(0.5, 0.9, "unchanged", transform=below.transAxes, ha="center", va="top", fontsize=7, color="#666666")
        return
    show(below, perturbation)
    below.set_xlabel(f"{times(row['amplification'])}\n{norms(row['l2'], row['linf'])}", fontsize=6)
