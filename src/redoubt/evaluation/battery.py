"""The attacks of `redoubt.evaluate`: those of the suites `linf` and `l2` of config/suites.yaml, for any model.

They are written here too, since who attacks from Python has no YAML and no config.
"""

from __future__ import annotations

from typing import Any

QUERIES = 2000
BATTERY: dict[str, dict[str, Any]] = {
    "apgd": {"attack": "apgd", "steps": 100, "loss": "cross-entropy"},
    "apgd-targeted": {"attack": "apgd", "steps": 100, "loss": "dlr", "targets": 9},
    "square": {"attack": "square", "iterations": QUERIES - 2},
}
"""Keys of each attack by the name in the suites; `norm` and `queries` are added."""
THREATS = ("linf", "l2")
BLACK_BOX = ("square",)


def entry(name: str, norm: str, queries: int = QUERIES, classes: int = 10) -> tuple[str, dict[str, Any]]:
    """Return an attack's name and parameters.

    Args:
        name: in the battery.
        norm: of the ball.
        queries: forward and backward passes for an image at most.
        classes: of the model. The targeted ratio of logits needs four; with fewer the margin is followed, and with two
            there is one wrong class to aim at.
    """
    found = {**BATTERY[name], "norm": norm, "queries": queries}
    if "targets" in found:
        found["targets"] = min(found["targets"], classes - 1)
        found["loss"] = found["loss"] if classes >= 4 else "margin"
    if "iterations" in found:
        found["iterations"] = max(1, min(found["iterations"], queries - 2))
    return found.pop("attack"), found
