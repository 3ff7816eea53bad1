"""Entries of artifacts in tests: what a test does not say has a value that changes nothing."""

from redoubt import registry

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
            "defense": {"name": "deepdefense" if defense else "clean", "parameters": defense},
        }
    base = {
        "plot": plot,
        "parameters": parameters,
        "models": shown,
        "inputs": [],
        "verdict": {"rate": 0.0, "mean": 0.0},
    }
    return TEXTS | FACTS | base | changes
