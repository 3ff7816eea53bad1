"""From an artifact's entry to its numbers: what the table and the figure step share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from redoubt import registry
from redoubt.artifacts.interface import Drawing, Inputs


def draw(entry: dict[str, Any]) -> Drawing:
    """Return a table or figure as its entry describes it."""
    typed = parse(entry)
    return registry.method("artifacts", typed.plot).draw(typed, Inputs(typed))


def parse(entry: dict[str, Any]) -> SimpleNamespace:
    """Return an entry with attributes in place of keys, and the plot's `Parameters`."""
    parameters = registry.parameters("artifacts", entry["plot"], entry["parameters"])
    models = {
        name: SimpleNamespace(**model | {"defense": SimpleNamespace(**model["defense"])})
        for name, model in entry["models"].items()
    }
    inputs = [SimpleNamespace(**need) for need in entry["inputs"]]
    typed = {"parameters": parameters, "models": models, "inputs": inputs}
    return SimpleNamespace(**entry | typed | {"verdict": SimpleNamespace(**entry["verdict"])})


def data(drawing: Drawing) -> str:
    """Return the numbers behind a table or figure as CSV, every float spelt so that it reads back exactly."""
    return drawing.data.to_csv(index=False, lineterminator="\n")
