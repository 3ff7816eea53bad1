"""Universal perturbations of several models and radii, and images that they are added to, with the predicted classes.

At the left is the class that each model predicts for the clean image; a red class differs from it. Perturbations are
amplified, each by the factor shown: zero is mid-grey. Source: PeerNets, figures 4 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from redoubt.artifacts._pictures import amplified, class_name, picture, show, times
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import lazy, np, pd
from redoubt.records import Positive, Strict
from redoubt.rows import rho_of
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need, Swept

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from redoubt.artifacts import _style as style
else:
    style = lazy("redoubt.artifacts._style")

KIND = "figure"
COLUMNS = ["model", "name", "rho", "index", "label", "class", "clean_label", "seen"]
COLUMNS += ["adversarial_label", "predicted", "fooled", "l2", "linf", "amplification", "reason"]
COPIED = ["rho", "index", "label", "clean_label", "adversarial_label"]

ADDRESS = ("model",)  # columns that name a number in a claim


class Parameters(Strict):
    """The attack that kept images with the perturbations added, its models from top to bottom, and what is shown."""

    attack: str = Field(description="replay of universal perturbations, or the attack itself, with keep_images")
    models: list[str]
    images: Annotated[int, Field(gt=0)] = Field(1, description="number of attacked images, the first ones")
    blocks: Annotated[int, Field(gt=0)] = Field(1, description="images beside each other")
    rhos: list[Positive] | None = Field(None, description="radii that are shown; all when null")
    perturbations: bool = Field(True, description="whether the perturbations are shown, at the left")


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    return [Need(model, parameters.attack) for model in parameters.models]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    known = [{"model": model, "rho": Swept(model, parameters.attack)} for model in parameters.models]
    return [dict.fromkeys(COLUMNS, ANY) | cell for cell in known]


@dataclass
class Pictures:
    """What is shown, as pictures."""

    clean: dict[int, np.ndarray] = field(default_factory=dict)  # by index
    moved: dict[tuple[str, int, float], np.ndarray] = field(default_factory=dict)  # by model, index and rho
    perturbations: dict[tuple[str, float], tuple[np.ndarray, float]] = field(default_factory=dict)  # with their factors


def collect(entry: ArtifactEntry[Parameters], inputs: Inputs) -> tuple[pd.DataFrame, Pictures]:
    """Return one row per model, image and radius, of a model's first seed, and the pictures.

    A model that was not run has one row with its reason.
    """
    options, rows, pictures = entry.parameters, [], Pictures()
    for model in options.models:
        facts = {"model": model, "name": style.name(entry.models[model].labels)}
        if (reason := inputs.missing(model, options.attack)) is not None:
            rows.append({**facts, "reason": reason})
            continue
        attacked = inputs.rows(model, options.attack)
        seed, shape, classes = attacked["seed"].min(), attacked.attrs["shape"], attacked.attrs["classes"]
        for name, v in inputs.shared(model, options.attack)[seed].items():
            pictures.perturbations[model, rho_of(name)] = amplified(v, shape)
        attacked = attacked[attacked["seed"] == seed].sort_values(["rho", "index"])
        first = attacked["index"].drop_duplicates().head(options.images)
        for row in attacked[attacked["index"].isin(first)].to_dict("records"):
            if options.rhos is not None and row["rho"] not in options.rhos:
                continue
            place = facts | {key: row[key] for key in COPIED}
            place |= {"class": class_name(classes, row["label"]), "fooled": int(row["success"])}
            place |= {"seen": class_name(classes, row["clean_label"])}
            place |= {"predicted": class_name(classes, row["adversarial_label"])}
            place |= {"amplification": pictures.perturbations[model, row["rho"]][1]}
            rows.append(place | {norm: 255.0 * row[norm] for norm in ("l2", "linf")})
            pictures.clean[row["index"]] = picture(row["clean_picture"], shape)
            pictures.moved[model, row["index"], row["rho"]] = picture(row["picture"], shape)
    return pd.DataFrame(rows).reindex(columns=COLUMNS), pictures


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Draw one line of pictures for each image and model: the clean image, perturbations, perturbed images."""
    data, pictures = collect(entry, inputs)
    options, run = entry.parameters, data[data["reason"].isna()]
    rhos, images = sorted(run["rho"].unique()), sorted(run["index"].unique()) or [None]
    models, shows = options.models, options.perturbations and bool(rhos)
    blocks = min(options.blocks, len(images))
    lines, width = -(-len(images) // blocks), 1 + max(1, len(rhos)) * (1 + shows)
    columns = (width + 1) * blocks - 1  # a blank one parts two blocks
    figure, axes = style.gallery(lines * len(models), columns, 0.85, (0.08, 0.32), 0.2)
    for place, image in enumerate(images):
        line, block = divmod(place, blocks)
        for number, model in enumerate(models):
            places = axes[line * len(models) + number][block * (width + 1) :][:width]
            part = data[(data["model"] == model) & ((data["index"] == image) | data["reason"].notna())]
            first = part.iloc[0]
            _clean(places[0], first, pictures if number == 0 or image is None else None, named=block == 0)
            if pd.notna(first["reason"]):
                style.absent_picture(places[1], first["reason"], 60)
                continue
            if shows:
                _perturbations(places[1 : 1 + len(rhos)], pictures, model, rhos, top=line + number == 0)
            _moved(places[width - len(rhos) :], pictures, part.set_index("rho"), top=line + number == 0)
    style.stamp(figure, entry.stamp)
    return Drawing(data, figure=figure)


def _clean(axis: Axes, row: pd.Series, pictures: Pictures | None, named: bool) -> None:
    """Show the clean image over its class in the line of the first model, and the prediction of each line's model.

    The name of the model is at the left.
    """
    axis.set_axis_on()
    image = None if pictures is None else pictures.clean.get(row["index"])
    show(axis, image)
    seen = "" if pd.isna(row["seen"]) else f"sees {row['seen']}"
    if image is not None:
        axis.set_xlabel(f"{row['class']}\n{seen}", fontsize=7)
    else:
        axis.text(0.5, 0.5, seen, transform=axis.transAxes, ha="center", va="center", fontsize=7)
    if named:
        axis.set_ylabel(row["name"], fontsize=6)


def _perturbations(axes: Iterable[Axes], pictures: Pictures, model: str, rhos: list[float], top: bool) -> None:
    for axis, rho in zip(axes, rhos, strict=True):
        if (model, rho) not in pictures.perturbations:
            continue
        image, factor = pictures.perturbations[model, rho]
        axis.set_axis_on()
        show(axis, image)
        axis.set_xlabel(times(factor), fontsize=7)
        if top:
            axis.set_title(f"v, ρ = {rho:g}", fontsize=7)


def _moved(axes: Iterable[Axes], pictures: Pictures, part: pd.DataFrame, top: bool) -> None:
    for axis, (rho, row) in zip(axes, part.iterrows(), strict=False):
        axis.set_axis_on()
        show(axis, pictures.moved[row["model"], row["index"], rho])
        color = "#B00020" if row["fooled"] else "#222222"
        axis.set_xlabel(row["predicted"], fontsize=7, color=color)
        if top:
            axis.set_title(f"ρ = {rho:g}", fontsize=7)
