"""Our attacks beside those of adv-lib and torchattacks, on the same model and images: `make referee`.

Both packages lie in a folder beside the environment. Of what adv-lib imports, visdom (a logger) is left out: no attack
needs it. An attack has at most 2 000 queries of an image, forward and backward passes together, by its own numbers of
steps; what it returns counts, not what it passed on the way. Sides take turns on blocks of images, in CPU seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import run
import torch

from redoubt.data import store
from redoubt.evaluation.craft import craft
from redoubt.judging.adaptive import area_share
from redoubt.models import classifier, weights
from redoubt.study.entries.model import ModelEntry

RESULTS = run.ROOT / "benchmarks/results"
TRAINED = run.ROOT / "results/reference/readings-mnist/models/mnist-lenet5-none/seed-0"
QUERIES, STEPS, BALL_STEPS, TARGETS, BLOCK = 2000, 990, 100, 3, 25
ORDERS = {"l2": 2.0, "linf": float("inf")}
LARGEST = {"l2": 5.0, "linf": 0.5}  # half of the ball in which adv-lib's minimal APGD begins
BALLS = {"l2": 1.5, "linf": 0.1}
OURS, HALF, ADV_LIB, TORCHATTACKS = "ours", "ours, half the steps", "adv-lib", "torchattacks"
LONGER = "ours, 50 steps"
Attack = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
Sides = dict[str, Attack]


class Counting(torch.nn.Module):
    """A model that counts forward and backward passes of images."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.count = model, 0
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (B, classes)."""
        logits = self.model(images)
        self.count += len(images)
        if logits.requires_grad:
            logits.register_hook(self._backward)
        return logits

    def _backward(self, gradient: torch.Tensor) -> None:
        self.count += len(gradient)


@dataclass
class Measured:
    """What one side found: norms of its examples, infinite where it found none; seconds of each block; its queries."""

    sizes: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    queries: int = 0

    def speed(self) -> float:
        """Return images a second."""
        return len(self.sizes) / sum(self.seconds)


def ours(attack: str, **options: object) -> Attack:
    """Return one of our attacks."""
    return lambda model, images, labels: craft(attack, model, images, labels, **options).images


def minimal(norm: str) -> dict[str, Sides]:
    """Return minimum-norm attacks by name and side.

    Sides of one name take the same steps but where they say so; our trust region takes them again towards two further
    classes where an image stays right.
    """
    from adv_lib import attacks
    from adv_lib.attacks.auto_pgd import minimal_apgd

    order = ORDERS[norm]
    search = partial(minimal_apgd, norm=order, max_eps=LARGEST[norm])
    targeted = partial(search, binary_search_steps=12, targeted_version=True, n_iter=19, num_targets=4)
    balls, longer = (ours("minimal-apgd", norm=norm, queries=QUERIES, steps=steps, targets=4) for steps in (19, 50))
    found: dict[str, Sides] = {
        "minimal APGD-T": {OURS: balls, LONGER: longer, ADV_LIB: targeted},
        "minimal APGD": {ADV_LIB: partial(search, binary_search_steps=10, n_iter=98)},
        "trust region": {
            OURS: ours("trust-region", norm=norm, steps=300),
            ADV_LIB: partial(attacks.tr, p=order, iter=300, adaptive=True),
        },
    }
    walks = {"FMN": ("fmn", {"norm": norm}, partial(attacks.fmn, norm=order, steps=STEPS))}
    if norm == "l2":
        walks["DDN"] = ("ddn", {}, partial(attacks.ddn, steps=STEPS, levels=None))
    for name, (attack, options, theirs) in walks.items():
        own, half = (ours(attack, **options, steps=steps) for steps in (STEPS, STEPS // 2))
        found[name] = {OURS: own, HALF: half, ADV_LIB: theirs}
    return found


def fixed(norm: str, epsilon: float) -> dict[str, Sides]:
    """Return attacks in a ball, by name and side, with the same steps and one start."""
    import torchattacks
    from adv_lib import attacks

    def theirs(kind: str, **options: object) -> Attack:
        def made(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return getattr(torchattacks, kind)(model, norm=name, eps=epsilon, **options)(images, labels)

        return made

    name, ball = norm.capitalize(), {"norm": norm, "epsilons": [epsilon]}
    apgd = partial(attacks.apgd, eps=epsilon, norm=ORDERS[norm], n_iter=BALL_STEPS, loss_function="dlr")
    share = 0.8 if norm == "linf" else 0.1
    return {
        "APGD": {
            OURS: ours("apgd", **ball, steps=BALL_STEPS),
            ADV_LIB: apgd,
            TORCHATTACKS: theirs("APGD", steps=BALL_STEPS, loss="dlr"),
        },
        "APGD-T": {
            OURS: ours("apgd", **ball, steps=BALL_STEPS, targets=TARGETS),
            ADV_LIB: partial(
                attacks.apgd_targeted, eps=epsilon, norm=ORDERS[norm], n_iter=BALL_STEPS, num_targets=TARGETS
            ),
            TORCHATTACKS: theirs("APGDT", steps=BALL_STEPS, n_classes=TARGETS + 1),
        },
        "Square": {
            OURS: ours("square", **ball, iterations=1000, share=share),
            TORCHATTACKS: theirs("Square", n_queries=1000, p_init=share),
        },
    }


def measured(
    attacks: dict[str, Sides], model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: str
) -> dict[tuple[str, str], Measured]:
    """Attack images (N, C, H, W) of labels (N,), all sides of an attack in turn; all images are right before."""
    found = {(name, side): Measured() for name, sides in attacks.items() for side in sides}
    for name, sides in attacks.items():
        for number, block in enumerate(torch.arange(len(images)).split(BLOCK)):
            for side in list(sides)[:: -1 if number % 2 else 1]:
                torch.manual_seed(number)
                counting, clean, own = Counting(model), images[block], found[name, side]
                start = time.process_time()
                moved = sides[side](counting, clean.clone(), labels[block]).detach()
                own.seconds.append(time.process_time() - start)
                with torch.no_grad():
                    wrong = (model(moved).argmax(1) != labels[block]) & ((moved >= 0) & (moved <= 1)).flatten(1).all(1)
                sizes = torch.linalg.vector_norm((moved - clean).flatten(1), ORDERS[norm], dim=1)
                own.sizes += torch.where(wrong, sizes, float("inf")).tolist()
                own.queries += counting.count
        print(f"{norm} {name}: {', '.join(f'{side} {found[name, side].speed():.2f} images/s' for side in sides)}")
    return found


def minimal_rows(what: str, norm: str, found: dict[tuple[str, str], Measured]) -> Iterator[dict]:
    """Yield a row for each attack and side: optimality, against the envelope of all, and speed, against a referee."""
    sizes = {key: np.array(each.sizes) for key, each in found.items()}
    envelope = np.min(list(sizes.values()), axis=0)
    for (name, side), each in found.items():
        own, rival = sizes[name, side], found.get((name, OURS if side == ADV_LIB else ADV_LIB))
        row: dict[str, object] = {"model": what, "norm": norm, "attack": name, "by": side, "images": len(own)}
        row |= {"optimality": area_share(own, envelope), "found": np.isfinite(own).mean(), "median": np.median(own)}
        row |= {"no_larger": None, "queries": each.queries / len(own), "images_per_s": each.speed(), "ratio": None}
        if rival is not None:
            times = zip(rival.seconds, each.seconds, strict=True)
            row["ratio"] = statistics.median(other / mine for other, mine in times)
            row["no_larger"] = np.mean(own <= 1.01 * np.array(rival.sizes))
        yield row


def fixed_rows(what: str, norm: str, epsilon: float, found: dict[tuple[str, str], Measured]) -> Iterator[dict]:
    """Yield a row for each attack and referee: the images that both fool, one alone, and neither."""
    fooled = {key: np.array(each.sizes) <= 1.0001 * epsilon for key, each in found.items()}
    nothing = np.zeros_like(next(iter(fooled.values())))
    for name, side in found:
        if side == OURS:
            continue
        mine, other = fooled.get((name, OURS), nothing), fooled[name, side]
        speed = found[name, OURS].speed() / found[name, side].speed() if (name, OURS) in found else None
        row: dict[str, object] = {"model": what, "norm": norm, "epsilon": epsilon, "attack": name, "referee": side}
        row |= {"both": int((mine & other).sum()), "ours_alone": int((mine & ~other).sum())}
        row |= {"referee_alone": int((other & ~mine).sum()), "neither": int((~mine & ~other).sum()), "ratio": speed}
        yield row


def spelled(value: object) -> str:
    """Return a cell of a page."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: list[dict]) -> list[str]:
    """Return rows as lines of a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "| --- " * len(names) + "|"]
    return lines + ["| " + " | ".join(spelled(row[name]) for name in names) + " |" for row in rows]


def write(rows: dict[str, list[dict]], folder: Path) -> None:
    """Write the page, and a CSV file of each of its tables."""
    for name, some in rows.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(some[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(some)
    given = f" (here with `{' '.join(sys.argv[1:])}`)" if sys.argv[1:] else ""
    text = f"""# Referee

Attacks of Redoubt beside those of adv-lib 0.2.8 and torchattacks 3.5.1, on test images that the model has right.
`make referee` writes this page{given}; torch {torch.__version__}, one thread, CPU
seconds, sides in turn on {BLOCK} images.

## Minimum norm, at most {QUERIES} queries

Optimality is AttackBench's: of the area that the best of all attacks in the table takes off the accuracy over the
size, the share that this one takes. `no larger`: images on which its example is at most 1 % larger than the other
side's. `ratio`: speed against the other side, median of blocks.

{chr(10).join(table(rows["referee"]))}

## In balls

APGD with {BALL_STEPS} steps, untargeted and at {TARGETS} classes; Square with 1 000 squares; one start.
Images that both fool, one side alone, and neither; `ratio`: our speed against the referee's.

{chr(10).join(table(rows["referee-balls"]))}
"""
    (folder / "referee.md").write_text(text, encoding="utf-8")


def lenet(data: Path, folder: Path) -> tuple[str, torch.nn.Module]:
    """Return LeNet-5 with the weights of the reference where MNIST is at hand, or one that is trained on the digits."""
    if data.name != "mnist":
        return f"LeNet, {data.name}", run.trained(data, folder / "lenet", "cpu")
    facts = json.loads((TRAINED / "model.json").read_text())
    entry = ModelEntry.parse(facts["entry"])
    if entry.preprocessing.name != "identity":
        raise AssertionError(f"{TRAINED}: its preprocessing has a file")
    model = classifier.build(entry, tuple(facts["shape"]), len(facts["classes"]))
    weights.load(model.network, TRAINED / "weights.safetensors")
    return "LeNet-5, MNIST", model.eval()


def right(model: torch.nn.Module, data: Path, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return those of the first test images, float32 in [0, 1], that a model has right, and their labels."""
    split = store.load(data, "test")
    images, labels = split.images(slice(0, count)).float() / 255.0, split.labels[:count]
    with torch.no_grad():
        kept = model(images).argmax(1) == labels
    return images[kept].contiguous(), labels[kept]


def judged(
    what: str, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, few: int, many: int
) -> dict[str, list[dict]]:
    """Return the rows of both tables for a model: of its first `few` images without a ball, and of `many` in one."""
    rows: dict[str, list[dict]] = {"referee": [], "referee-balls": []}
    for norm, epsilon in BALLS.items():
        rows["referee"] += minimal_rows(what, norm, measured(minimal(norm), model, images[:few], labels[:few], norm))
        found = measured(fixed(norm, epsilon), model, images[:many], labels[:many], norm)
        rows["referee-balls"] += fixed_rows(what, norm, epsilon, found)
    return rows


def main() -> None:
    """Attack a LeNet, and a residual network trained on digits for a minute; write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=25, help="of LeNet")
    parser.add_argument("--ball-images", type=int, default=100, help="of LeNet in balls")
    parser.add_argument("--resnet-images", type=int, default=4, help="of the residual network; 0: none")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the page")
    options = parser.parse_args()
    sys.modules["visdom"] = types.ModuleType("visdom")
    torch.set_num_threads(1)
    rows: dict[str, list[dict]] = {"referee": [], "referee-balls": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = run.dataset(folder)
        cases = [(*lenet(data, folder), data, options.images, options.ball_images)]
        if options.resnet_images:
            digits = run.dataset(folder, "digits")
            residual = {"name": "resnet-cifar", "parameters": {"depth": 8}}
            model = run.trained(digits, folder / "resnet", "cpu", 10, residual)
            cases.append(("ResNet-8, digits", model, digits, options.resnet_images, options.resnet_images))
        torch.set_num_threads(1)
        for what, model, images, few, many in cases:
            for kind, made in judged(what, model, *right(model, images, max(few, many)), few, many).items():
                rows[kind] += made
    write(rows, options.out)
    print((options.out / "referee.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
