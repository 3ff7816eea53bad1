"""Adaptive wrappers: what an attack changes to follow a defense, by the names that defenses declare.

Source: Tramer, Carlini, Brendel and Madry (NeurIPS 2020), for the habit of naming them with the defense.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Wrapper(NamedTuple):
    """Keys that are put into an attack's entry, and what of a defense they follow."""

    keys: dict[str, Any]
    follows: str


WRAPPERS: dict[str, Wrapper] = {
    "straight-through": Wrapper({"gradient": "straight-through"}, "peer layers as the identity on the way back"),
    "soft-neighbours": Wrapper(
        {"gradient": "soft-neighbours"}, "weights by soft nearness among many peer pixels, at a falling temperature"
    ),
    "many-neighbours": Wrapper({"gradient": "many-neighbours"}, "attention over many nearest peer pixels, not K"),
    "fresh-peers": Wrapper(
        {"surrogate": {"peers": "fresh"}, "draws": 5}, "the mean over peers that every call draws again"
    ),
    "transfer": Wrapper({}, "another model, the undefended one or one with other peers: `crafted_on`"),
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
