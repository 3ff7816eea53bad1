"""How fast this machine is: steps and passes of a model, timed; the passes that an attack takes, counted.

Weights are untrained, and images are digits that ship inside a dependency or, in place of photographs, random: nothing
has to be downloaded or trained first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch

from redoubt import device, registry
from redoubt.attacks._expectation import Expectation
from redoubt.attacks.interface import Batches, Context
from redoubt.data import digits, sources
from redoubt.defenses.interface import Setting
from redoubt.errors import RedoubtError
from redoubt.evaluation.engine import implementation
from redoubt.models import classifier
from redoubt.study.entries.attack import AttackEntry
from redoubt.study.entries.model import ModelEntry
from redoubt.training.loop import Trainer
from redoubt.training.resume import Resume

LONG_ENOUGH = 0.2
"""Seconds after which a measurement is no longer repeated."""
BATCH = 256
"""Images that an attack gives to a model at once."""


def seconds(work: Callable[[], object], where: torch.device) -> float:
    """Return CPU seconds of all threads, so that other processes do not count, or the seconds until a GPU is done."""
    if where.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize(where)
    start = time.perf_counter()
    work()
    torch.cuda.synchronize(where)
    return time.perf_counter() - start


# -- models ------------------------------------------------------------------------------------------------------------


def pictures(dataset: str, shape: tuple[int, int, int], count: int) -> torch.Tensor:
    """Return images (count, *shape) in [0, 1] that are as fast to compute with as those of a dataset.

    Grey ones have blank borders, as MNIST's, where peers are found sooner.
    """
    torch.manual_seed(0)
    if not (embedded := sources.source(dataset).embedded) and shape != sources.source("digits").shape:
        return torch.rand(count, *shape)
    images, _ = digits.build(sources.source(dataset if embedded else "digits"))["train"]
    return torch.from_numpy(images)[torch.arange(count) % len(images)].float() / 255.0


def of_model(entry: ModelEntry, shape: tuple[int, int, int], classes: int, name: str, threads: int) -> dict:
    """Return how fast a model is trained and asked.

    Args:
        entry: the model's entry, as the catalog gives it.
        shape: (C, H, W) of its images.
        classes: how many there are.
        name: of the device: auto, cpu or cuda.
        threads: CPU threads.

    Returns:
        step: seconds of a training step of one batch in the last epoch, when a defense does all that it does; prepare:
        seconds an image before the first step; forward and backward: seconds an image of a pass through the model in
        eval mode, and of one back to its inputs; bytes of the weights.
    """
    where = device.choose(name, threads)
    device.seed_everything("rates")
    model = classifier.build(entry, shape, classes)
    model = classifier.moved(model, where, classifier.memory_format(model.network, shape))
    # Chance labels must not make it diverge, and no accuracy ends it.
    schedule = entry.training.model_copy(update={"learning_rate": 1e-9, "stop_at": None})
    options = registry.parameters("defenses", entry.defense.name, entry.defense.parameters)
    defense = registry.method("defenses", entry.defense.name).Defense(options, model.network)
    images = pictures(entry.dataset, shape, max(schedule.batch_size, getattr(options, "peers", 0))).to(where)
    labels = torch.randint(classes, (len(images),), device=where)
    with torch.no_grad():
        inputs = model.preprocessing(images)
    defense.begin(Setting(model.preprocessing, shape, classes, schedule, len(images), 1, where))
    prepare = seconds(lambda: defense.training_inputs(inputs, labels, lambda steps, title: steps), where)

    def trained(steps: int) -> float:
        trainer = Trainer(
            network=model.network,
            defense=defense,
            schedule=schedule.model_copy(update={"epochs": max(1.0, math.ceil(schedule.epochs))}),
            names=("rates", 0),
            batch=lambda positions: (inputs[positions % len(inputs)], labels[positions % len(inputs)]),
            count=steps * schedule.batch_size,
            evaluate=dict,
            resume=Resume(None),
            frozen_norms=entry.start is not None,
        )
        trainer.done = trainer.last - steps
        return seconds(trainer.run, where)

    step = trained(1)
    if step < 10 * LONG_ENOUGH:  # the first step is slower than those that follow
        step = trained(count := max(1, round(LONG_ENOUGH / step))) / count
    passes = _passes(model.eval(), images, where)
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.network.state_dict().values())
    return {"step": step, "prepare": prepare / len(images), **passes, "bytes": size}


def _passes(model: torch.nn.Module, images: torch.Tensor, where: torch.device) -> dict[str, float]:
    def forward(inputs: torch.Tensor) -> None:
        with torch.no_grad():
            model(inputs)

    def both(inputs: torch.Tensor) -> None:
        inputs = inputs.clone().requires_grad_()
        torch.autograd.grad(model(inputs).sum(), inputs)

    both(images[:2])  # what is computed once, as the features of peers, is not of every pass
    size = 8 if where.type == "cpu" else BATCH
    while True:
        batch = images[torch.arange(size, device=where) % len(images)]
        there, there_and_back = (seconds(partial(work, batch), where) for work in (forward, both))
        if there_and_back > LONG_ENOUGH or size >= BATCH:
            return {"forward": there / size, "backward": max(there_and_back - there, 0.0) / size}
        size *= 2


# -- attacks -----------------------------------------------------------------------------------------------------------


class _Counted(torch.autograd.Function):
    """The identity, which counts images on their way and gradients on their way back.

    Gradients come back enlarged, so that attacks that step as far as a linear model would ask for hardly move.
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, passes: dict[str, int]) -> torch.Tensor:
        ctx.passes = passes
        passes["forward"] += len(inputs)
        return inputs.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        ctx.passes["backward"] += len(gradient)
        return 1e6 * gradient, None


class Firm(torch.nn.Module):
    """A model that sees class 0 in whatever lies near images in [0, 1], and counts its passes.

    Args:
        shape: of an image.
        classes: how many logits.
    """

    directions: torch.Tensor

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.register_buffer("directions", torch.randn(torch.Size(shape).numel(), classes, generator=draw))
        self.passes = {"forward": 0, "backward": 0}

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes)."""
        flat = _Counted.apply(inputs, self.passes).flatten(1)
        logits = torch.sin(flat @ self.directions)
        near = flat.detach().abs().mean(1) < 2.0  # far away it gives way, for a search that needs to find errors
        first = torch.zeros_like(logits)
        first[:, 0] = torch.where(near, 10.0, -10.0)
        return logits + first


def _rows(sources: list[AttackEntry], inputs: torch.Tensor) -> pd.DataFrame:
    """Return rows as an attack would find those that it reads: images, or perturbations where these are universal."""
    frame = pd.DataFrame({"model": "model", "index": range(len(inputs)), "epsilon": 1.0})
    rhos = [rho for source in sources for rho in source.parameters.get("rhos") or []]
    if rhos:
        frame.attrs["shared"] = {"model": {f"rho-{rho}": inputs[0].numpy() for rho in rhos}}
    else:
        frame["image"] = list(inputs.flatten(1).numpy())
    return frame


def _total(
    entry: AttackEntry, sources: list[AttackEntry], shape: tuple[int, int, int], classes: int, sizes: tuple
) -> dict[str, int]:
    """Attack a firm model; return its passes, scoring included, and the rows that come of it."""
    count, crafting = sizes
    generator = device.seed_everything("rates", entry.id)
    images = torch.rand(count + crafting, *shape)
    model = Firm(shape, classes).eval()
    batches = Batches(images[:count], torch.zeros(count, dtype=torch.long), BATCH)
    bounds = (0.0, 1.0) if entry.space == "pixels" else None
    reads = _rows(sources, batches.images) if sources else None
    crafted = None if entry.crafting is None else images[count:]
    context = Context(generator, bounds, reads, torch.arange(count), crafted)
    options = registry.parameters(*entry.method, entry.parameters)
    random = entry.draws > 1 or entry.repetitions > 1
    network = Expectation(model, entry.draws, entry.mean, entry.judges) if random else model
    times, rows = (entry.repetitions, 0) if entry.recraft else (1, 0)
    for _ in range(times):
        for part in implementation(*entry.method, entry.engine)(network, batches, options, context):
            rows += entry.repetitions // times * len(part.inputs)
    clean = rows if random else count  # what a random model says of clean images is asked in every repetition
    return {**model.passes, "forward": model.passes["forward"] + clean + rows, "rows": rows}


def of_attack(
    entry: AttackEntry, sources: list[AttackEntry], shape: tuple[int, int, int], classes: int
) -> dict[str, dict[str, float]] | None:
    """Count what an attack takes on a model that is hardly ever fooled, so that it seldom ends early.

    Args:
        entry: the attack's entry, as the catalog gives it.
        sources: entries of the attacks whose rows it reads.
        shape: (C, H, W) of the images.
        classes: how many there are.

    Returns:
        forward and backward passes and rows: `fixed`, for each attacked `image`, and for each `crafting` image.
        None for an attack that asks for more than a callable, as an inspection of layers does.
    """
    try:
        few, more = (_total(entry, sources, shape, classes, sizes) for sizes in ((1, 2), (2, 2)))
        wider = _total(entry, sources, shape, classes, (1, 4)) if entry.crafting is not None else few
    except RedoubtError:
        return None
    image: dict[str, float] = {kind: more[kind] - few[kind] for kind in few}
    crafting = {kind: (wider[kind] - few[kind]) / 2 for kind in few}
    fixed = {kind: max(0.0, few[kind] - image[kind] - 2 * crafting[kind]) for kind in few}
    return {"fixed": fixed, "image": image, "crafting": crafting}
