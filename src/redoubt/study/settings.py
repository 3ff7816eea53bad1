"""Settings of a model by their paths, for tables that show what a study runs with."""

from __future__ import annotations

from typing import Any

from redoubt import registry
from redoubt.study.entries.model import ModelEntry

KINDS = {"network": "networks", "preprocessing": "preprocessing", "defense": "defenses"}
LAYERS = "network.layers"


def settings(entry: ModelEntry, paths: list[str]) -> dict[str, Any]:
    """Return values of a model's entry by path, such as `training.epochs` or `defense.parameters.c`, as JSON data.

    Defaults are filled in, those of methods too. A path that the entry does not have is left out: models of one table
    may have other defenses. `network.layers` are the words and the padding of each layer, of a network that is a chain.
    """
    whole = entry.model_dump(mode="json", by_alias=True)
    for key, kind in KINDS.items():
        named = getattr(entry, key)
        parameters = registry.parameters(kind, named.name, named.parameters)
        whole[key]["parameters"] = parameters.model_dump(mode="json", by_alias=True)
        if key == "network" and (chain := getattr(registry.method(kind, named.name), "LAYERS", None)) is not None:
            whole[key]["layers"] = [[word, chain.padding(word)] for word in chain.words(parameters)]
    found = {path: _at(whole, path.split(".")) for path in paths}
    return {path: value for path, value in found.items() if value is not None}


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
