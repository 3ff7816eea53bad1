"""What slows Adv-BNN down in a short training: its first sigma, and the divergence from the prior.

`python benchmarks/bayesian.py results/data/cifar10-jpeg` writes results/bayesian.csv, in 12 minutes of one core. A
ResNet-20 is trained for 300 batches of 64 images, 16 pixels wide, of 10 000; by Adam at 0.01, and at 0.001 for the last
100. As in a training on all of CIFAR-10, the divergence is divided by 50 000. One run of each; accuracies are of 500
test images. `one step` trains on examples of one step of 8/255, the other rows on clean images.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

import torch

from redoubt import registry
from redoubt.data import store
from redoubt.data.subsets import stratified
from redoubt.defenses.interface import BaseDefense, Batch, Moment, Setting
from redoubt.networks import _noise as noise
from redoubt.networks import resnet_cifar
from redoubt.preprocessing._layers import Standardised
from redoubt.study.entries.model import Training
from redoubt.training.data import augment

SHAPE, CLASSES, IMAGES, TESTED, COUNT = (3, 16, 16), 10, 10_000, 500, 50_000
BATCH, STEPS, RATE, DRAWS = 64, 300, 0.01, 10
ONE_STEP = {"steps": 1, "step_size": 8 / 255, "epsilon": 8 / 255}
Data = tuple[torch.Tensor, torch.Tensor]
RUNS: list[tuple[str, str, dict[str, Any]]] = [
    ("clean", "pgd-training", {}),
    *[
        ("clean", "adv-bnn", {"initial_std": std, "kl_weight": weight, "kl": layers})
        for std in (0.08, 0.02)
        for weight, layers in ((1.0, "all"), (0.02, "all"), (0.0, "all"), (1.0, "last"))
    ],
    ("one step", "pgd-training", {"random_start": False, "mode": "eval", **ONE_STEP}),
    ("one step", "adv-bnn", {"initial_std": 0.08, **ONE_STEP}),
    ("one step", "adv-bnn", {"initial_std": 0.02, "kl_weight": 0.02, **ONE_STEP}),
]


def read(folder: Path, split: str, count: int) -> Data:
    """Return the first images (N, *SHAPE) in [0, 1] of each class, and their labels."""
    data = store.load(folder, split)
    chosen = stratified(data.labels, count)
    return torch.nn.functional.avg_pool2d(data.images(chosen).float() / 255.0, 2), data.labels[chosen]


def made(name: str, options: dict[str, Any], layer: Standardised) -> BaseDefense:
    """Return a defense of a new network, begun."""
    torch.manual_seed(0)
    method = registry.method("defenses", name)
    parameters = method.Parameters(**options)
    network = resnet_cifar.build(resnet_cifar.Parameters(depth=20), SHAPE, CLASSES)
    if method.DECLARES.changes:
        network = method.change(parameters, network, SHAPE, CLASSES)
    defense = method.Defense(parameters, network.train())
    schedule = Training(epochs=1, batch_size=BATCH, learning_rate=RATE, optimizer="adam")
    defense.begin(Setting(layer, SHAPE, CLASSES, schedule, COUNT, STEPS, torch.device("cpu")))
    return defense


def trained(defense: BaseDefense, data: Data) -> float:
    """Train, and return the mean cross-entropy of the last 30 batches."""
    (images, labels), optimizer = data, torch.optim.Adam(defense.network.parameters(), RATE)
    places, losses = torch.Generator().manual_seed(1), []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE if step < 2 * STEPS / 3 else RATE / 10
        at = torch.randint(len(images), (BATCH,), generator=places)
        batch = Batch(defense.inputs(augment(images[at], ["horizontal-flip"])), labels[at], at)
        _, logits = defense.step(batch, Moment(0, step, STEPS, COUNT), optimizer)
        losses.append(torch.nn.functional.cross_entropy(logits, labels[at]).item())
    return statistics.fmean(losses[-30:])


def ratio(network: torch.nn.Module) -> float:
    """Return the deviation of the noise on a convolution's weights over that of their means: the median over layers."""
    means = dict(network.named_parameters())
    return statistics.median_high(
        (std.exp().mean() / means[name.replace("0.log_std", "original")].std()).item()
        for name, std in means.items()
        if name.endswith("log_std") and std.dim() == 4
    )


def facts(defense: BaseDefense) -> dict[str, float]:
    """Return mean sigma, noise over means, and the divergence in nats an image; none of a network without noise."""
    sizes = [part.sizes().flatten() for part in noise.noises(defense.network)]
    if not sizes:
        return {}
    total = torch.stack(noise.divergences(defense.network, defense.parameters.prior_std)).sum().item()
    return {"sigma": torch.cat(sizes).mean().item(), "noise_over_mean": ratio(defense.network), "nats": total / COUNT}


def row(kind: str, name: str, options: dict[str, Any], layer: Standardised, train: Data, test: Data) -> dict[str, Any]:
    """Train once, and return what is written of it."""
    defense = made(name, options | ({} if kind == "one step" else {"adversarial_from": 1}), layer)
    asked = {key: getattr(defense.parameters, key, "") for key in ("initial_std", "kl_weight", "kl")}
    before = facts(defense)
    entropy = trained(defense, train)
    with torch.no_grad():
        network = getattr(defense.network, "network", defense.network)
        defense.network.eval()
        draws = torch.stack([network(defense.inputs(test[0])) for _ in range(DRAWS)])
    right = draws.softmax(2).mean(0).argmax(1) == test[1]
    one = (draws.argmax(2) == test[1]).float().mean().item()
    result = {"images": kind, "method": name, **asked, **{f"{key}_before": value for key, value in before.items()}}
    result |= {"cross_entropy": entropy, "one_draw": one, "mean_of_draws": right.float().mean().item()}
    return result | facts(defense)


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the prepared dataset")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/bayesian.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = read(options.data, "train", IMAGES), read(options.data, "test", TESTED)
    layer = Standardised(SHAPE[0])
    layer.mean.copy_(train[0].mean((0, 2, 3)).view(-1, 1, 1))
    layer.std.copy_(train[0].std((0, 2, 3)).view(-1, 1, 1))
    rows = []
    for run in RUNS:
        rows.append(row(*run, layer, train, test))
        print(rows[-1], flush=True)
    columns = list(rows[1])
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: round(v, 4) if isinstance(v, float) else v for key, v in one.items()} for one in rows)


if __name__ == "__main__":
    main()
