"""Entries of artifacts in tests: what a test does not say has a value that changes nothing."""

from pathlib import Path

import yaml

from redoubt import registry

LOOKS = yaml.safe_load((Path(__file__).parents[1] / "config/looks.yaml").read_text(encoding="utf-8"))["methods"]

TEXTS = {"title": "A title", "caption": "A caption.", "stamp": "NOT comparable", "published": "published.csv"}
FACTS = {"study": "s", "id": "x-1", "scale": "demo", "kind": "figure", "comparable": True}


def needs_of(plot, parameters):
    """Return what a plot reads, each once."""
    return list(
        dict.fromkeys(registry.method("artifacts", plot).needs(registry.parameters("artifacts", plot, parameters)))
    )


def artifact_entry(plot, parameters, models=None, **changes):
    """Return the JSON of an artifact; `models` maps models to labels, or to labels and the defense's parameters."""
    shown = {}
    for name, labels in (models or {}).items():
        labels, defense = labels if isinstance(labels, tuple) else (labels, {})
        shown[name] = {
            "labels": labels,
            "dataset": "digits",
            "parameters": defense,
        }
    base = {
        "plot": plot,
        "parameters": parameters,
        "models": shown,
        "looks": LOOKS,
        "inputs": [],
        "verdict": {"rate": 0.0, "mean": 0.0},
    }
    return TEXTS | FACTS | base | changes


def undrawn(plot, parameters, data):
    """Return what differs between the rows that a plot says it will draw, and a drawn CSV; nothing if they agree.

    That is columns of only one of them, and drawn rows that no announced cell fits.
    """
    cells = registry.method("artifacts", plot).cells(registry.parameters("artifacts", plot, parameters))
    columns = {*cells[0]} ^ {*data.columns}
    facts = [{key: value for key, value in cell.items() if isinstance(value, str | int)} for cell in cells]

    def fits(row):  # what was not run has no measure
        return any(
            all(row[key] in (value, None) or row[key] != row[key] for key, value in fact.items()) for fact in facts
        )

    return sorted(columns - {"reason"}), [row for row in data.to_dict("records") if not fits(row)]
