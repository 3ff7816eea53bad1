"""Training and attacks of models with noise, in ratios: against Foolbox's PGD, and against a model without noise.

Part of `make bench`; by itself: `python benchmarks/noise.py`. The sides of a ratio take turns in one process. Images
are random, networks have their first weights, and all adversarial trainings make examples by 7 steps of 0.01.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import foolbox
import torch
from page import compared

from redoubt import registry
from redoubt.attacks import few_pixel
from redoubt.attacks._expectation import Expectation
from redoubt.attacks.interface import Context
from redoubt.defenses.interface import Batch, Moment, Setting
from redoubt.networks import resnet_cifar
from redoubt.probes._turns import in_turn
from redoubt.study.entries.model import Training

SHAPE, CLASSES, EPSILON = (3, 32, 32), 10, 8 / 255
MOMENT = Moment(epoch=30, step=30 * 391, steps_per_epoch=391, count=50_000)  # noise and examples have begun
NOISES = {"Vanilla": "pgd-training", "PNI": "pni", "Learn2Perturb": "learn2perturb", "Adv-BNN": "adv-bnn"}
SHARED = {"epsilon": EPSILON, "steps": 7, "step_size": 0.01, "label": "predicted", "clean_weight": 0.5}


def defended(name: str, device: torch.device) -> tuple:
    """Return the defense of a fresh ResNet-20, and its optimizer."""
    torch.manual_seed(0)
    method = registry.method("defenses", name)
    options = method.Parameters(**{**SHARED, "mode": "eval", "random_start": True})
    network = resnet_cifar.build(resnet_cifar.Parameters(depth=20), SHAPE, CLASSES)
    network = method.change(options, network, SHAPE, CLASSES) if method.DECLARES.changes else network
    network = network.to(device, memory_format=torch.channels_last).train()
    defense = method.Defense(options, network)
    schedule = Training(epochs=350, batch_size=128, learning_rate=0.1)
    defense.begin(Setting(torch.nn.Identity(), SHAPE, CLASSES, schedule, MOMENT.count, MOMENT.steps_per_epoch, device))
    return defense, torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True)


def plain_step(images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    """Return Vanilla's step as one would write it, with Foolbox's PGD: half clean images, half examples."""
    defense, optimizer = defended("pgd-training", images.device)
    network, loss = defense.network, torch.nn.functional.cross_entropy
    attack = foolbox.attacks.LinfPGD(abs_stepsize=SHARED["step_size"], steps=SHARED["steps"], random_start=True)

    def step() -> None:
        clean = network(images)
        network.eval()
        model = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)
        _, moved, _ = attack(model, images, foolbox.criteria.Misclassification(clean.argmax(1)), epsilons=EPSILON)
        network.train()
        optimizer.zero_grad()
        (0.5 * loss(clean, labels) + 0.5 * loss(network(moved), labels)).backward()
        optimizer.step()

    return step


def training_rows(device: torch.device, count: int, repetitions: int) -> list[dict]:
    """Compare training steps of ResNet-20."""
    images, labels = torch.rand(count, *SHAPE, device=device), torch.randint(0, CLASSES, (count,), device=device)
    batch = Batch(images, labels, torch.arange(count))
    works: dict[str, Callable[[], object]] = {"Vanilla with Foolbox's PGD": plain_step(images, labels)}
    for title, name in NOISES.items():
        defense, optimizer = defended(name, device)
        works[title] = lambda defense=defense, optimizer=optimizer: defense.step(batch, MOMENT, optimizer)
    times = in_turn(works, repetitions, device)
    aims = {
        "Vanilla": "aim 1.5 times as fast as Foolbox's",
        "PNI": "aim 1.1",
        "Learn2Perturb": "aim 1.1",
        "Adv-BNN": "aim 2",
    }
    return compared(f"training step of ResNet-20, batch {count}", times, "Vanilla", aims)


def few_pixel_rows(device: torch.device, count: int, repetitions: int, population: int = 100) -> list[dict]:
    """Compare few-pixel searches that take all of their generations, so that both ask the same number of queries."""
    images, options = (
        torch.rand(count, *SHAPE, device=device),
        few_pixel.Parameters(pixels=[1], population=population, generations=4),
    )
    works = {}
    for title in ("Vanilla", "Learn2Perturb"):
        defense, _ = defended(NOISES[title], device)
        network = Firm(defense.network.eval())
        labels = torch.zeros(count, dtype=torch.int64, device=device)
        model = network if title == "Vanilla" else Expectation(network, judges=10)

        def search(model=model, labels=labels) -> None:
            draws = Context(torch.Generator().manual_seed(0)).generators(range(count), "few-pixel")
            with torch.no_grad():
                few_pixel.search(model, images, labels, 1, options, (0.0, 1.0), draws)

        works[title] = search
    times = in_turn(works, repetitions, device)
    return compared(
        f"few pixels, {count} images, {5 * population} queries each", times, "Vanilla", {"Learn2Perturb": "aim 1.2"}
    )


class Firm(torch.nn.Module):
    """A network that is asked and always sees class 0, so that no search ends early."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes)."""
        logits = self.network(inputs)
        return torch.cat([logits.amax(1, keepdim=True) + 1.0, logits[:, 1:]], 1)


def rows(device: torch.device, count: int = 64, repetitions: int = 5) -> list[dict]:
    """Return the rows of the table of speeds."""
    return training_rows(device, count, repetitions) + few_pixel_rows(device, 8, repetitions)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    for row in rows(torch.device(options.device), options.batch):
        print(f"{row['what']:60} {row['value']:10.1f} {row['unit']}  {row['ratio']:.2f}  {row['facts']}")


if __name__ == "__main__":
    main()
