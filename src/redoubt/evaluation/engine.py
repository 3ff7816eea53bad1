"""Which implementation of an attack runs: the attack's own module, or another engine's."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from redoubt import registry
from redoubt.errors import RedoubtError

PROBES = "probes"
"""Kind of what looks at a finished model and perturbs nothing; it is run as an attack is."""


def kind_of(name: str) -> str:
    """Return the kind of a method that runs on a finished model: `attacks`, or `probes` where it is one of these."""
    return PROBES if name in registry.names(PROBES) else "attacks"


def implementation(kind: str, name: str, engine: str = "redoubt") -> Callable:
    """Return the function `run(network, batches, parameters, context)` of an attack by an engine.

    Args:
        kind: see `kind_of`.
        name: of the attack.
        engine: `redoubt`, the attack's own module, or the name of a module in `redoubt.engines`, whose `ATTACKS` has a
            `run` for each attack that it knows. No import statement names those: other code does not depend on them.

    Raises:
        RedoubtError: there is no such attack, or it does not run on this engine.
    """
    method = registry.method(kind, name)
    if engine not in (engines := getattr(method, "ENGINES", ("redoubt",))):
        raise RedoubtError(f"{name}: runs on {' and '.join(engines)}, not on '{engine}'")
    if engine == "redoubt":
        return method.run
    return importlib.import_module(f"redoubt.engines.{engine}").ATTACKS[name]
