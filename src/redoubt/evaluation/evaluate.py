"""How robust a model of yours is: strong attacks of one threat, the worst of them, and what speaks against the number.

print(evaluate(model, images, labels, threat="linf", epsilon=8 / 255))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Literal

import pandas as pd
import torch

from redoubt import registry
from redoubt.attacks._expectation import Expectation, differs
from redoubt.attacks.interface import module_of
from redoubt.errors import RedoubtError
from redoubt.evaluation import memory
from redoubt.evaluation.checks import check_images, check_mode, check_model
from redoubt.evaluation.craft import craft
from redoubt.judging import gates
from redoubt.judging.estimate import Estimate, estimate
from redoubt.study.entries.adaptive import BATTERY, BLACK_BOX, QUERIES, THREATS, battery

WORST = "worst of all"
Threat = Literal["linf", "l2"]


@dataclass(frozen=True)
class Evaluation:
    """What attacks leave of a model.

    Attributes:
        rows: a row for each image and attack, see `redoubt.craft`, with a column `attack`.
        worst: a row for each image: that of the strongest attack, which `decided_by` names.
        table: accuracy on clean images, under each attack, and under the worst, with 95 % intervals over images;
            the mean of forward and backward passes, and seconds.
        gates: what speaks for and against the number, by the checks of `redoubt.judging.gates`.
        batch_size: images at a time in the end.
        random: the model draws; attacks averaged its loss over draws, and every example was scored several times.
    """

    rows: pd.DataFrame
    worst: pd.DataFrame
    table: pd.DataFrame
    gates: dict[str, gates.Gate]
    batch_size: int
    random: bool

    @property
    def accuracy(self) -> float:
        """The share of images that no attack fooled: an upper bound of the robust accuracy."""
        return float(self.table["accuracy"].iloc[-1])

    @property
    def passed(self) -> bool:
        """Whether no gate speaks against the number."""
        return all(gate.gate != "red" for gate in self.gates.values())

    def __str__(self) -> str:
        shown = self.table.copy()
        for name in ("accuracy", "low", "high"):
            shown[name] = [f"{100 * value:.1f} %" for value in shown[name]]
        shown["queries"] = [f"{value:.0f}" if value == value else "" for value in shown["queries"]]
        shown["seconds"] = [f"{value:.1f}" for value in shown["seconds"]]
        return "\n".join([shown.to_string(index=False), "", *starmap(gates.line, self.gates.items())])


def evaluate(
    network: Callable,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat = "linf",
    epsilon: float = 8 / 255,
    *,
    attacks: Sequence[str] = tuple(BATTERY),
    queries: int = QUERIES,
    draws: int = 20,
    scorings: int = 5,
    batch_size: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Attack a model with a battery of strong attacks, and doubt what comes out.

    Args:
        network: a module or any callable from images (B, C, H, W) in [0, 1] to logits (B, classes); a module is in eval
            mode, and decides the device. It is left as it is.
        images: (N, C, H, W) float32 in [0, 1], of any size.
        labels: (N,) int64 true classes.
        threat: norm of the ball, linf or l2.
        epsilon: its radius in units of [0, 1] images.
        attacks: which of the battery: apgd, apgd-targeted, square.
        queries: forward and backward passes of an image at most, for each attack; at least 32.
        draws: of a model that draws, averaged in attacks.
        scorings: times that examples on such a model are scored.
        batch_size: images at a time; found from the memory that is free when None. Where memory runs out it is halved
            and the attack begins again. It changes no result.
        seed: of all draws.

    Raises:
        RedoubtError: an unknown threat or attack; images, labels or a model that no attack takes; memory runs out with
            one image at a time.
    """
    if threat not in THREATS:
        raise RedoubtError(f"threat: {threat!r} is not one of {', '.join(THREATS)}")
    if unknown := [name for name in attacks if name not in BATTERY] or ([] if attacks else ["none"]):
        raise RedoubtError(f"attacks: {unknown[0]!r} is not one of {', '.join(BATTERY)}")
    check_images(images, labels)
    check_mode("evaluate", network)
    where = device_of(network, images)
    images, labels = images.detach().to(where), labels.to(where)
    check_model("evaluate", network, images, labels, None)
    with torch.random.fork_rng([where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        asked = _Asked(network, images, labels, seed, batch_size or memory.fitting(network, images))
        return asked.evaluation(threat, epsilon, attacks, queries, draws, scorings)


def device_of(network: Callable, images: torch.Tensor) -> torch.device:
    """Return the device of a module's first parameter or buffer; that of the images where there is none."""
    module = module_of(network)
    tensors = [] if module is None else [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else images.device


class _Asked:
    """A model and the images that it is attacked on."""

    def __init__(self, network: Callable, images: torch.Tensor, labels: torch.Tensor, seed: int, size: int) -> None:
        self.network, self.images, self.labels, self.seed, self.size = network, images, labels, seed, size
        with torch.no_grad():
            self.classes = network(images[:1]).shape[1]
        self.random = differs(network, images)

    def evaluation(
        self, threat: str, epsilon: float, attacks: Sequence[str], queries: int, draws: int, scorings: int
    ) -> Evaluation:
        """Run the attacks and return what they leave."""
        times = scorings if self.random else 1
        victim: Callable = Expectation(self.network, draws, judges=draws) if self.random else self.network
        members: dict[str, pd.DataFrame] = {}
        seconds: dict[str, float] = {}
        for name in attacks:
            begin = time.perf_counter()
            members[name] = self._rows(victim, *battery(name, threat, queries, self.classes), epsilon, times)
            seconds[name] = time.perf_counter() - begin
        worst = _worst(members)
        judged = gates.judged(self._probed(members, threat, epsilon, queries, draws))
        rows = pd.concat([own.assign(attack=key) for key, own in members.items()], ignore_index=True)
        return Evaluation(rows, worst, _table(members, worst, seconds), judged, self.size, self.random)

    def _rows(self, victim: Callable, attack: str, parameters: dict, epsilon: float, times: int) -> pd.DataFrame:
        return self._crafted(attack, victim, {"epsilons": [epsilon], "scorings": times, **parameters})

    def _crafted(self, attack: str, victim: Callable, given: dict) -> pd.DataFrame:
        def run(size: int) -> pd.DataFrame:
            generator = torch.Generator().manual_seed(self.seed)
            return craft(attack, victim, self.images, self.labels, generator, batch_size=size, **given).rows

        rows, self.size = memory.shrinking(run, self.size)
        return rows

    def _probed(
        self, members: dict[str, pd.DataFrame], threat: str, epsilon: float, queries: int, draws: int
    ) -> pd.DataFrame:
        """Return the rows of the probe `gates`, and which images fall to any attack with gradients, or without.

        An image falls to an attack on a model that draws where most scores say so.
        """
        steps = max(5, min(20, queries // 50))
        given = {"epsilon": epsilon, "norm": threat, "steps": steps, "queries": min(500, queries), "draws": draws}
        rows = self._crafted("gates", self.network, given).sort_values("index")
        fooled = {False: rows["wrong_restarts"].to_numpy(), True: rows["wrong_black"].to_numpy()}
        for name, own in members.items():
            wrong = (own["adversarial_label"] != own["label"]).groupby(own["index"]).mean() > 0.5
            fooled[name in BLACK_BOX] = fooled[name in BLACK_BOX] | wrong.to_numpy()
        return rows.assign(wrong_white=fooled[False], wrong_black=fooled[True])


def _worst(members: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return for each image the rows of the attack that is strongest there."""
    combine = registry.method("attacks", "worst-of").combine
    rows: pd.DataFrame = combine(members, registry.parameters("attacks", "worst-of", {"by": "wrong"}))
    return rows


def _table(members: dict[str, pd.DataFrame], worst: pd.DataFrame, seconds: dict[str, float]) -> pd.DataFrame:
    lines = [_line("clean", "accuracy", worst, 0.0)]
    lines += [_line(name, "accuracy(at=attacked)", rows, seconds[name]) for name, rows in members.items()]
    lines.append(_line(WORST, "accuracy(at=attacked)", worst, sum(seconds.values())))
    return pd.DataFrame(lines)


def _line(name: str, metric: str, rows: pd.DataFrame, seconds: float) -> dict[str, object]:
    try:
        found: Estimate = estimate(metric, rows)
    except ModuleNotFoundError as error:
        raise RedoubtError(f"the interval of a model that draws needs {error.name}; pip install scipy") from None
    spent = float(rows["queries"].mean()) if "queries" in rows and name != "clean" else float("nan")
    return {
        "attack": name,
        "accuracy": found.value,
        "low": found.low,
        "high": found.high,
        "images": found.n,
        "queries": spent,
        "seconds": seconds,
    }
