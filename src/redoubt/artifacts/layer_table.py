"""A table of networks, layer by layer, beside what the paper prints; it reads the config alone.

Source: DeepDefense, supplementary table 3.
"""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import Field

from redoubt.artifacts._markdown import table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.lazily import pd
from redoubt.records import Strict
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.needs import ANY, Need

KIND = "table"
COLUMNS = ["model", "network", "place", "published", "ours", "padding", "agrees"]
PATH = "network.layers"


class Network(Strict):
    """A model, and the layers that the paper prints for its network."""

    model: str
    printed: str = Field(description="words with spaces between, such as `Conv-5-20 MaxPool-2 FC-500 ReLU FC-10`")


class Parameters(Strict):
    """Networks from left to right."""

    networks: list[Network]


def needs(parameters: Parameters) -> list[Need]:
    """Return nothing: no model has to be trained."""
    return []


def models(parameters: Parameters) -> list[str]:
    """Return the models whose networks are shown."""
    return [network.model for network in parameters.networks]


def settings(parameters: Parameters) -> list[str]:
    """Return the path of the layers."""
    return [PATH]


def cells(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the rows that will be drawn."""
    return [dict.fromkeys(COLUMNS, ANY) | {"model": model} for model in models(parameters)]


def beside(printed: list[str], ours: list[str]) -> list[tuple[str | None, int | None]]:
    """Return each printed layer with the place of ours, in both orders; None where one side has none of that kind."""
    pairs: list[tuple[str | None, int | None]] = []
    left_kinds, right_kinds = ([word.split("-")[0] for word in words] for words in (printed, ours))
    matcher = difflib.SequenceMatcher(None, left_kinds, right_kinds, autojunk=False)
    for kind, low, high, first, last in matcher.get_opcodes():
        left: list[str | None] = [*printed[low:high]]
        right: list[int | None] = [*range(first, last)]
        width = max(len(left), len(right)) if kind in ("equal", "replace") else len(left) + len(right)
        pairs += zip(left + [None] * (width - len(left)), right + [None] * (width - len(right)), strict=True)
    return pairs


def draw(entry: ArtifactEntry[Parameters], inputs: Inputs) -> Drawing:
    """Return one row for each layer of each network, and the table as Markdown."""
    rows = []
    for network in entry.parameters.networks:
        shown, printed = entry.models[network.model], network.printed.split()
        layers = shown.settings.get(PATH, [])
        for place, (paper, ours) in enumerate(beside(printed, [word for word, _ in layers])):
            word, padding = layers[ours] if ours is not None else (None, None)
            facts = {"model": network.model, "network": shown.labels["network"], "place": place, "published": paper}
            rows.append(facts | {"ours": word, "padding": padding, "agrees": paper == word})
    data = pd.DataFrame(rows, columns=COLUMNS).astype({"padding": "Int64"})
    return Drawing(data, text=markdown(entry, data))


def markdown(entry: ArtifactEntry[Parameters], data: pd.DataFrame) -> str:
    """Return the table as Markdown, networks beside each other."""
    columns = {
        entry.models[model].labels["network"]: [_text(row) for row in data[data["model"] == model].to_dict("records")]
        for model in models(entry.parameters)
    }
    height = max(map(len, columns.values()))
    rows = zip(*(cells + [""] * (height - len(cells)) for cells in columns.values()), strict=True)
    notes = ["", "Layers are as the paper prints them, or paper → **ours**; padding is not printed. Strides: 1 of a"]
    notes += ["convolution, that of the kernel of a pool."]
    return table(entry, list(columns), map(list, rows), notes)


def _text(row: dict[str, Any]) -> str:
    padded = f", padded by {row['padding']}" if not pd.isna(row["padding"]) and row["padding"] else ""
    if row["agrees"]:
        return f"{row['ours']}{padded}"
    paper, ours = ("none" if pd.isna(row[name]) else row[name] for name in ("published", "ours"))
    return f"{paper} → **{ours}**{padded}"
