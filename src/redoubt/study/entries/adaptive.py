"""Strong attacks of a ball, and adaptive wrappers: what an attack changes to follow a defense that names them.

Both are lists for studies (config/suites.yaml) and for `redoubt.evaluate`, which has no config.

Source: Tramer, Carlini, Brendel and Madry (NeurIPS 2020), for the habit of naming them with the defense.
"""

from __future__ import annotations

from typing import Any, NamedTuple

QUERIES = 2000
BATTERY: dict[str, dict[str, Any]] = {
    "apgd": {"attack": "apgd", "steps": 100, "loss": "cross-entropy"},
    "apgd-targeted": {"attack": "apgd", "steps": 100, "loss": "dlr", "targets": 9},
    "square": {"attack": "square", "iterations": QUERIES - 2},
}
"""Attacks of a ball by name; `norm` and `queries` are added."""
THREATS = ("linf", "l2")
BLACK_BOX = ("square",)


def battery(name: str, norm: str, queries: int = QUERIES, classes: int = 10) -> tuple[str, dict[str, Any]]:
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


def entries(norm: str) -> dict[str, dict[str, Any]]:
    """Return the keys of the entries of the battery's attacks, by name."""
    given = {name: battery(name, norm) for name in BATTERY}
    return {name: {"attack": attack, "parameters": parameters} for name, (attack, parameters) in given.items()}


class Wrapper(NamedTuple):
    """Keys that are put into an attack's entry, and what of a defense they follow."""

    keys: dict[str, Any]
    follows: str


TRANSFER = "transfer"
WRAPPERS: dict[str, Wrapper] = {
    "straight-through": Wrapper({"gradient": "straight-through"}, "peer layers as the identity on the way back"),
    "soft-neighbours": Wrapper(
        {"gradient": "soft-neighbours"}, "weights by soft nearness among many peer pixels, at a falling temperature"
    ),
    "many-neighbours": Wrapper({"gradient": "many-neighbours"}, "attention over many nearest peer pixels, not K"),
    "fresh-peers": Wrapper(
        {"surrogate": {"peers": "fresh"}, "draws": 5}, "the mean over peers that every call draws again"
    ),
    TRANSFER: Wrapper(
        {"parameters": {"stop": False}}, "another model, the undefended one or one with other peers: `crafted_on`"
    ),
    "mean-of-draws": Wrapper({"draws": 20}, "the mean over draws of a random model"),
    "twin": Wrapper({"craft_noise": "none"}, "a random model without its noise"),
    "log-odds": Wrapper({"parameters": {"loss": "log-odds"}}, "a loss that does not saturate"),
    "margin": Wrapper({"parameters": {"loss": "margin"}}, "a loss that is linear in the logits"),
    "scaled-logits": Wrapper({"surrogate": {"scale": 0.001}}, "logits that are too small for a loss to saturate"),
    "through-autoencoder": Wrapper(
        {}, "the defended model, not the classifier behind its autoencoder: no `crafted_on`"
    ),
    "detector-evaded": Wrapper({"surrogate": {"detector": 1000.0}}, "what detectors mark, kept below their thresholds"),
}
NONE = "none: "
"""How a declaration begins that names no wrapper; the reason follows."""


def check(adaptive: tuple[str, ...] | str) -> None:
    """Refuse what a defense declares if it is neither known names nor a reason for none.

    Raises:
        ValueError: saying what was expected.
    """
    wanted = f"adaptive: give names of {', '.join(WRAPPERS)}, or '{NONE}' and why"
    if isinstance(adaptive, str):
        if not adaptive.removeprefix(NONE).strip() or not adaptive.startswith(NONE):
            raise ValueError(f"{wanted}; it is {adaptive!r}")
    elif not adaptive:
        raise ValueError(wanted)
    elif unknown := [name for name in adaptive if name not in WRAPPERS]:
        raise ValueError(f"{wanted}; {unknown[0]!r} is none of them")
