"""How each registered defense is tried in tests: a few digits, a small network, seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """Parameters and training that suit the digits, and what sets a defense apart from plain training."""

    parameters: dict[str, Any] = field(default_factory=dict)
    network: str = "mlp"
    start: bool = True  # it starts from a trained model, whose network is `network`
    schedule: dict[str, Any] = field(default_factory=dict)
    accuracy: float = 0.5  # on its training images, after that schedule
    own_inputs: bool = True  # trains on the inputs as they are
    own_logits: bool = True  # the loss tells the logits of those inputs
    frozen: str | None = None  # first part of the names of weights that training leaves alone


SCRATCH = {"epochs": 12, "optimizer": "adam", "learning_rate": 0.003}
WEAK = {"epsilon": 0.05, "steps": 2, "step_size": 0.04}
PEERS = {"after": ["conv2"], "peers": 5, "draws": 2, "neighbours": 3}
CASES = {
    "adv-bnn": Case(
        {"draws": 3, "initial_std": 0.02, "kl_weight": 0.02, **WEAK}, start=False, schedule=SCRATCH, own_logits=False
    ),
    "adversarial-training": Case(own_inputs=False),
    "bounded-relu": Case({"bound": 2.0}, start=False, schedule=SCRATCH),
    "clean": Case(),
    "deepdefense": Case({"guard": 5e-6}),
    "fgsm-training": Case({"epsilon": 0.1, "clean": 0.25}, start=False, schedule=SCRATCH, own_logits=False),
    "learn2perturb": Case(
        {"before": ["*relu*"], "noise_from": 2, "adversarial_from": 4, **WEAK},
        start=False,
        schedule=SCRATCH,
        own_logits=False,
    ),
    "logit-pairing": Case(
        {"epsilon": 0.02, "steps": 2, "step_size": 0.02, "weight": 0.1}, start=False, schedule=SCRATCH
    ),
    "magnet": Case(schedule={"optimizer": "adam"}, accuracy=0.0, frozen="network."),
    "parseval": Case(),
    "peernet": Case(PEERS, "lenet5", start=False, schedule={**SCRATCH, "epochs": 6}),
    "perceptual-prior": Case({"pairs": ["sign", "spatial"], "xi": 0.1, "lambda": 1e-3}, start=False, schedule=SCRATCH),
    "pgd-training": Case(WEAK, start=False, schedule=SCRATCH, own_logits=False),
    "pni": Case({"by": "channel", "adversarial_from": 2, **WEAK}, start=False, schedule=SCRATCH, own_logits=False),
}
