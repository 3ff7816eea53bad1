"""Planted broken defenses: each hides its gradient, or looks robust, in a known way, and falls to the attack that fits.

`python tests/planted.py` (PYTHONPATH=src) measures them on a model that is trained here, on the embedded digits, and
writes the page docs/planted.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from planted_layers import Peered, Recalled, Slanted, Switched, Watched

from redoubt.attacks._expectation import Expectation, Mean
from redoubt.evaluation.craft import craft
from redoubt.evaluation.surrogate import Evading, FreshPeers, Scaled, Surrogate
from redoubt.evaluation.twins import WithoutNoise
from redoubt.study.entries.attack import Follow

PAGE = Path(__file__).resolve().parent.parent / "docs/planted.md"
IMAGES = 100
TOLERANCE = 0.05
EPSILON = 0.2
PGD = {"epsilons": [EPSILON], "steps": 20, "relative_step_size": 0.1, "loss": "log-odds"}
CROSS_ENTROPY = {**PGD, "loss": "cross-entropy"}
LONG = {**PGD, "steps": 100, "relative_step_size": 0.02, "stop": False}
SOFT = Follow(over=PGD["steps"])


def zero_gradient(model: Callable) -> Callable:
    """Return a model that is the same but lets no gradient through."""
    return lambda images: model(images).detach() + 0.0 * images.flatten(1).sum(1, keepdim=True)


class Saturated(torch.nn.Module):
    """A model with logits a thousand times as large: its cross-entropy is zero in float32."""

    def __init__(self, model: Callable) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 1000.0 * self.model(images)


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


def loud(model: Callable) -> Callable:
    """Return a model of which a call in five is a thousand times as sure, with a gradient that points backwards."""

    def network(images: torch.Tensor) -> torch.Tensor:
        logits = model(images)
        return 1000.0 * (2.0 * logits.detach() - logits) if torch.rand(()) < 0.2 else logits

    return network


def decoy(model: Callable) -> Callable:
    """Return a model that is a thousand times as sure, but for a call in ten, which sees class 0 in every image."""

    def network(images: torch.Tensor) -> torch.Tensor:
        logits = 1000.0 * model(images)
        return logits if torch.rand(()) > 0.1 else 0.0 * logits + 1000.0 * torch.eye(logits.shape[1])[0]

    return network


def arg_max(model: Callable) -> Callable:
    """Return a model that shows its decision only, as one-hot logits."""

    def network(images: torch.Tensor) -> torch.Tensor:
        logits = model(images)
        hot = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
        return hot + 0.0 * images.flatten(1).sum(1, keepdim=True)

    return network


@dataclass(frozen=True)
class Case:
    """A planted defense, an attack that is misled by it, and one that is not."""

    plant: Callable
    breaks: str  # what an attack no longer gets from the model
    why: str  # the suitable attack suits
    naive: tuple[str, dict[str, Any]] = ("pgd", PGD)
    suitable: tuple[str, dict[str, Any]] = ("pgd", PGD)
    draws: int = 1  # of a random model, that attacks average
    means: tuple[Mean | None, Mean] = (None, "loss")  # of what, by the naive attack (None: of nothing) and the suitable
    transfer: Literal["naive", "suitable"] | None = None  # which attack is made on the undefended model
    sees: tuple[Callable | None, Callable | None] = (None, None)  # by each attack, of the defense, images and labels
    wrapper: str | None = None  # by which studies ask for the suitable attack

    def named(self, suitable: bool) -> str:
        """Return what the page calls one of the two attacks."""
        name, options = self.suitable if suitable else self.naive
        if self.transfer == ("suitable" if suitable else "naive"):
            return "transfer of PGD"
        if self.sees[suitable] is not None:
            return f"PGD, {self.wrapper if suitable else 'straight-through'}"
        if name != "pgd":
            return name
        mean = self.means[suitable] if self.draws > 1 else None
        return f"PGD on the {options['loss']}" + (f", mean {mean} of {self.draws} draws" if mean else "")

    def seen(self, network: Callable, suitable: bool, *data: torch.Tensor) -> Callable:
        """Return a planted defense as one of the two attacks is given it, on images and labels."""
        mean = self.means[suitable]
        if (see := self.sees[suitable]) is not None:
            network = see(network, *data)
        return network if self.draws == 1 or mean is None else Expectation(network, self.draws, mean)


CASES = {
    "zero gradient": Case(
        zero_gradient,
        breaks="the gradient, which is zero everywhere",
        suitable=("finite-difference", {"epsilons": [EPSILON], "delta": 0.01}),
        why="differences of logits need no gradient",
    ),
    "saturated logits": Case(
        Saturated,
        breaks="the cross-entropy, which rounds to zero with its gradient once logits are a thousand times as large",
        naive=("pgd", CROSS_ENTROPY),
        why="the log-odds of the logits do not saturate",
        wrapper="log-odds",
    ),
    "saturated logits, by the margin": Case(
        Saturated,
        breaks="the same",
        naive=("pgd", CROSS_ENTROPY),
        suitable=("pgd", {**PGD, "loss": "margin"}),
        why="the margin is linear in the logits",
        wrapper="margin",
    ),
    "saturated logits, scaled": Case(
        Saturated,
        breaks="the same",
        naive=("pgd", CROSS_ENTROPY),
        suitable=("pgd", CROSS_ENTROPY),
        sees=(None, lambda network, *_: Scaled(network, 1e-5)),
        why="the cross-entropy of logits that are scaled down does not round to zero",
        wrapper="scaled-logits",
    ),
    "rounding": Case(
        rounded,
        breaks="the gradient, which is zero since images are rounded to four grey levels",
        transfer="suitable",
        why="examples of the undefended model carry over",
        wrapper="transfer",
    ),
    "nearest grey level": Case(
        lambda model: Peered(model, "printed"),
        breaks="the gradient, which is zero since a peer layer links a pixel to one neighbour",
        sees=(None, lambda network, *_: Surrogate(network)),
        why="the neighbour is much like the pixel, so that the layer may pass for the identity",
        wrapper="straight-through",
    ),
    "coded grey level": Case(
        lambda model: Peered(model, "printed", coded=True),
        breaks="the gradient, as above, and the straight-through one: features and what is read of them differ",
        sees=(lambda network, *_: Surrogate(network), lambda network, *_: Surrogate(network, "soft-neighbours", SOFT)),
        why="weights by soft nearness follow a pixel from one neighbour to the next",
        wrapper="soft-neighbours",
    ),
    "attention to one neighbour": Case(
        lambda model: Peered(model, "gat"),
        breaks="the gradient, which is zero since attention over one neighbour is 1",
        sees=(None, lambda network, *_: Surrogate(network, "many-neighbours")),
        why="attention over all levels shows where the layer leads",
        wrapper="many-neighbours",
    ),
    "slanted by peers": Case(
        Slanted,
        breaks="the gradient, to which the fixed peers add a large false one",
        draws=100,
        sees=(None, lambda network, *_: FreshPeers(network, network.pool)),
        why="other peers add another, and the mean over draws of peers has none",
        wrapper="fresh-peers",
    ),
    "noise with a switch": Case(
        lambda model: Switched(model, noisy),
        breaks="the gradient, which drowns in noise as below",
        sees=(None, lambda network, *_: WithoutNoise(network)),
        why="the model without its noise makes the same predictions",
        wrapper="twin",
    ),
    "recalled digits": Case(
        Recalled,
        breaks="examples of the undefended model: images are replaced by a mean of training digits that are near",
        transfer="naive",
        why="what replaces images has a gradient",
        wrapper="through-autoencoder",
    ),
    "watched plane": Case(
        Watched,
        breaks="nothing; images that are far from a plane of training digits are reported, and count as right",
        naive=("pgd", LONG),
        suitable=("pgd", LONG),
        sees=(None, lambda network, *data: Evading(network, network.reports, *data, 1000.0)),
        why="the distance from that plane can be kept small",
        wrapper="detector-evaded",
    ),
    "random noise": Case(
        noisy,
        breaks="the gradient, which drowns in new noise for every image of every call",
        draws=300,
        why="the mean over draws has a gradient",
        wrapper="mean-of-draws",
    ),
    "loud draws": Case(
        loud,
        breaks="the mean loss: the gradient of a call in five is a thousand times as large, and points backwards",
        draws=20,
        means=("loss", "probabilities"),
        why="the probabilities of that call are saturated, so that it has no gradient",
    ),
    "decoy draws": Case(
        decoy,
        breaks="the mean probability, which a call in ten decides that sees class 0 in all images; the others saturate",
        draws=40,
        means=("probabilities", "loss"),
        why="every draw has a log-odds, and log-odds do not saturate",
    ),
    "arg-max output": Case(
        arg_max,
        breaks="the logits, of which only the decision is left",
        transfer="suitable",
        why="examples of the undefended model carry over",
    ),
}


def accuracy(name: str, network: Callable, images: torch.Tensor, labels: torch.Tensor, **options: Any) -> float:
    """Return the accuracy under an attack."""
    random = isinstance(network, Expectation)
    found = craft(name, network, images, labels, scorings=20 if random else 1, **options)
    right = found.rows["adversarial_label"] == found.rows["label"]
    if (watched := module_of(network, Watched)) is not None:
        right |= (watched.reports(found.images)[:, 0] >= 1.0).numpy()
    return float(right.mean())


def module_of(network: Callable, kind: type) -> Any:
    """Return a part of a kind, None where the model has none."""
    parts = network.modules() if isinstance(network, torch.nn.Module) else ()
    return next((part for part in parts if isinstance(part, kind)), None)


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
        found = {}
        for suitable, (attack, options) in enumerate((case.naive, case.suitable)):
            kind = ("naive", "suitable")[suitable]
            if case.transfer == kind:
                found[kind] = transferred(model, network, images, labels)
            else:
                seen = case.seen(network, bool(suitable), images, labels)
                found[kind] = accuracy(attack, seen, images, labels, **options)
        rows.append({"defense": name, "clean": clean, **found})
    return pd.DataFrame(rows)


def page(found: pd.DataFrame) -> str:
    """Return the page as Markdown, from what `table` measured."""
    columns = [
        "planted defense",
        "wrapper",
        "what it breaks",
        "clean",
        "naive attack",
        "accuracy",
        "suitable attack",
        "accuracy",
    ]
    lines = ["| " + " | ".join([*columns, "why"]) + " |", "|" + " --- |" * (len(columns) + 1)]
    for row in found.to_dict("records"):
        case = CASES[row["defense"]]
        clean, naive, suitable = (f"{100 * row[key]:.1f} %" for key in ("clean", "naive", "suitable"))
        cells = [
            row["defense"],
            case.wrapper or "–",
            case.breaks,
            clean,
            case.named(False),
            naive,
            case.named(True),
            suitable,
            case.why,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return HEAD + "\n".join(lines) + "\n"


STEP = PGD["relative_step_size"] * EPSILON
HEAD = f"""# Planted broken defenses

Defenses that are broken on purpose, each in a known way. They look robust under a naive attack, and fall to the attack
that fits them; a benchmark that reported the naive number alone would praise them. Whoever adds a defense can look up
here what to try before believing it.

An MLP is trained on scikit-learn's handwritten digits, and {IMAGES} test digits are attacked in an l-infinity ball of
radius {EPSILON}, with {PGD["steps"]} steps of {STEP:g} where the attack is PGD. Without any of
the defenses the MLP falls to plain PGD. Numbers are accuracies.

`PYTHONPATH=src python tests/planted.py` measures them and writes this page: the same bytes each time on one machine.
`tests/contract/test_planted.py` measures them too; it holds the list to this one and the numbers to within
{100 * TOLERANCE:g} points.

"""


def model_and_digits() -> tuple[Callable, torch.Tensor, torch.Tensor]:
    """Return the trained model, images (N, 1, 28, 28) in [0, 1] and their labels (N,)."""
    from conftest import trained

    from redoubt.data import digits
    from redoubt.data.sources import SOURCES

    arrays = digits.build(SOURCES["digits"])
    images, labels = (torch.from_numpy(part[:IMAGES]) for part in arrays["test"])
    return trained("mlp", 0.2, arrays, 120), images.float() / 255, labels


if __name__ == "__main__":
    PAGE.write_text(page(table(*model_and_digits())))
    print(PAGE.read_text(), end="")
