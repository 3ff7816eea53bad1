"""One test image and the DeepFool example of every model: pictures, wrong class and relative norm.

Source: DeepDefense, figure 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redoubt.artifacts._pictures import picture, show
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import lazy, np, pd
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need

if TYPE_CHECKING:
    from redoubt.artifacts import _style as style
else:
    style = lazy("redoubt.artifacts._style")

KIND = "figure"
COLUMNS = ["panel", "model", "method", "index", "label", "adversarial_label", "rho_2", "n", "probability_label"]
COLUMNS += ["probability_adversarial", "judge", "judge_label", "judge_clean_label", "reason"]

ADDRESS = ("model",)  # columns that name a number in a claim


class Row(Strict):
    """The models of one network, and the model that is shown all examples."""

    title: str
    models: list[str]
    judge: str


class Parameters(Strict):
    """Which attack made the examples, and which one scored the judges on them."""

    attack: str
    replay: str
    rows: list[Row]


def needs(parameters: Parameters) -> list[Need]:
    """Return the attacks that are read."""
    examples = [Need(model, parameters.attack) for row in parameters.rows for model in row.models]
    return [*examples, *(Need(row.judge, parameters.replay) for row in parameters.rows)]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    models = [(row.title, model) for row in parameters.rows for model in row.models]
    return [dict.fromkeys(COLUMNS, ANY) | {"panel": title, "model": model} for title, model in models]


def collect(entry: ArtifactEntry[Parameters], inputs: Inputs) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return one row per model and the pictures (H, W) or (H, W, 3) by model, the clean one under `clean`."""
    options = entry.parameters
    rows: list[dict[str, Any]] = []
    pictures: dict[str, np.ndarray] = {}
    for row in options.rows:
        for model in row.models:
            facts: dict[str, Any] = {"panel": row.title, "model": model, "method": entry.models[model].labels["method"]}
            if (reason := inputs.missing(model, options.attack)) is not None:
                rows.append({**facts, "reason": reason})
                continue
            frame = inputs.rows(model, options.attack)
            first = frame.iloc[0]
            facts |= {"index": first["index"], "label": first["label"], "adversarial_label": first["adversarial_label"]}
            facts |= {"rho_2": first["l2"] / first["x_l2"], "n": int((frame["seed"] == first["seed"]).sum())}
            facts["probability_label"] = first["probability_label"]
            facts["probability_adversarial"] = first["probability_adversarial"]
            rows.append(facts | _judged(inputs, row.judge, options.replay, model))
            pictures[model] = picture(first["picture"], frame.attrs["shape"])
            pictures["clean"] = picture(first["clean_picture"], frame.attrs["shape"])
    return pd.DataFrame(rows).reindex(columns=COLUMNS), pictures


def _judged(inputs: Inputs, judge: str, replay: str, model: str) -> dict:
    if inputs.missing(judge, replay) is not None:
        return {}
    rows = inputs.rows(judge, replay)
    first = rows[rows["source"] == model].iloc[0]
    return {"judge": judge, "judge_label": first["adversarial_label"], "judge_clean_label": first["clean_label"]}


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Draw the clean image at the left, then the examples; arrows name the class that the model sees."""
    data, pictures = collect(entry, inputs)
    rows = entry.parameters.rows
    figure, axes = style.grid(len(rows), 1 + max(len(row.models) for row in rows), 1.25, 1.55)
    for panels, row in zip(axes, rows, strict=True):
        part = data[data["panel"] == row.title].set_index("model")
        show(panels[0], pictures.get("clean"))
        panels[0].set_title("clean", fontsize=8)
        panels[0].set_ylabel(row.title)
        for axis, model in zip(panels[1:], row.models, strict=False):
            example = part.loc[model]
            if pd.notna(example["reason"]):
                style.absent(axis, [example["reason"]])
                continue
            show(axis, pictures[model])
            axis.set_title(f"{example['method']} → {example['adversarial_label']:.0f}", fontsize=8)
            axis.set_xlabel(f"{example['rho_2']:.3f}", fontsize=8)
    style.stamp(figure, entry.stamp)
    return Drawing(data, figure=figure)
