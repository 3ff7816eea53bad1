"""Planted broken defenses: each hides its gradient, or looks robust, in a known way, and falls to the attack that fits.

`python tests/planted.py` (PYTHONPATH=src) prints the table for a model that is trained here, on the embedded digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from redoubt.attacks.craft import craft
from redoubt.attacks.expectation import Expectation

EPSILON = 0.2
PGD = {"epsilons": [EPSILON], "steps": 20, "relative_step_size": 0.1, "loss": "log-odds"}


def zero_gradient(model: Callable) -> Callable:
    """Return a model that is the same but lets no gradient through."""
    return lambda images: model(images).detach() + 0.0 * images.flatten(1).sum(1, keepdim=True)


def saturated(model: Callable) -> Callable:
    """Return a model with logits a thousand times as large: its cross-entropy is zero in float32."""
    return lambda images: 1000.0 * model(images)


def rounded(model: Callable) -> Callable:
    """Return a model that sees images in four grey levels; rounding has no gradient."""
    return lambda images: model((images * 3).round() / 3)


def noisy(model: Callable) -> Callable:
    """Return a model with the same logits, whose gradient drowns in noise drawn for every image of every call."""

    def network(images: torch.Tensor) -> torch.Tensor:
        logits = model(images)
        slope = 100.0 * torch.randn_like(images)
        nothing = (slope * (images - images.detach())).flatten(1).sum(1, keepdim=True)  # zero, but for its gradient
        return logits + nothing * torch.randn(len(images), logits.shape[1])

    return network


def arg_max(model: Callable) -> Callable:
    """Return a model that tells its decision only, as one-hot logits."""

    def network(images: torch.Tensor) -> torch.Tensor:
        logits = model(images)
        hot = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
        return hot + 0.0 * images.flatten(1).sum(1, keepdim=True)

    return network


@dataclass(frozen=True)
class Case:
    """A planted defense, an attack that is misled by it, and one that is not."""

    plant: Callable
    naive: tuple[str, dict[str, Any]] = ("pgd", PGD)
    suitable: tuple[str, dict[str, Any]] = ("pgd", PGD)
    draws: int = 1
    transfer: bool = False
    why: str = field(default="")


CASES = {
    "zero gradient": Case(
        zero_gradient,
        suitable=("finite-difference", {"epsilons": [EPSILON], "delta": 0.01}),
        why="differences of logits need no gradient",
    ),
    "saturated logits": Case(
        saturated, naive=("pgd", {**PGD, "loss": "cross-entropy"}), why="the log-odds of the logits do not saturate"
    ),
    "rounding": Case(rounded, transfer=True, why="examples of the undefended model carry over"),
    "random noise": Case(noisy, draws=300, why="the mean over draws has a gradient"),
    "arg-max output": Case(arg_max, transfer=True, why="examples of the undefended model carry over"),
}


def accuracy(name: str, network: Callable, images: torch.Tensor, labels: torch.Tensor, **options: Any) -> float:
    """Return the accuracy under an attack."""
    rows = craft(name, network, images, labels, **options).rows
    return float((rows["adversarial_label"] == rows["label"]).mean())


def transferred(source: Callable, target: Callable, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the target's accuracy on PGD examples of the source."""
    stored = craft("pgd", source, images, labels, **{**PGD, "stop": False}).images.flatten(1).numpy()
    reads = pd.DataFrame({"model": "source", "index": range(len(images)), "image": list(stored)})
    return accuracy("replay", target, images, labels, reads=reads)


def table(model: Callable, images: torch.Tensor, labels: torch.Tensor) -> pd.DataFrame:
    """Return accuracies of every planted defense: clean, under the naive attack, under the suitable one."""
    rows = []
    for name, case in CASES.items():
        network = case.plant(model)
        torch.manual_seed(0)
        clean = float((network(images).argmax(1) == labels).float().mean())
        naive = accuracy(case.naive[0], network, images, labels, **case.naive[1])
        if case.transfer:
            suitable = transferred(model, network, images, labels)
        else:
            attacked = Expectation(network, case.draws) if case.draws > 1 else network
            suitable = accuracy(case.suitable[0], attacked, images, labels, **case.suitable[1])
        how = "transfer" if case.transfer else case.suitable[0] + (f", {case.draws} draws" if case.draws > 1 else "")
        facts = {"defense": name, "clean": clean, "PGD": naive, "suitable attack": suitable}
        rows.append({**facts, "attack": how, "why": case.why})
    return pd.DataFrame(rows)


def main() -> None:
    """Train a small model on the embedded digits and print the table."""
    from conftest import trained

    from redoubt.data import digits
    from redoubt.data.sources import SOURCES

    arrays = digits.build(SOURCES["digits"])
    images, labels = (torch.from_numpy(part[:200]) for part in arrays["test"])
    found = table(trained("mlp", 0.2, arrays, 120), images.float() / 255, labels)
    print("| " + " | ".join(found.columns) + " |\n|" + " --- |" * len(found.columns))
    for row in found.to_dict("records"):
        print(
            "| "
            + " | ".join(f"{100 * cell:.1f} %" if isinstance(cell, float) else cell for cell in row.values())
            + " |"
        )


if __name__ == "__main__":
    main()
