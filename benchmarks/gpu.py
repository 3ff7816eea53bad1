"""Speed on a GPU, in under 100 seconds: `python benchmarks/gpu.py` writes benchmarks/results/gpu.md.

It needs torch with Triton, and of other packages few; images are random, networks have their first weights. A part that
fails is reported and the others go on. A time of the network is that of ten steps in a row, divided by ten.

On a machine without a GPU `--tiny` runs all parts on small networks, to see that they work.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import page
import torch

from redoubt import device as devices
from redoubt.defenses import pgd_training
from redoubt.networks import _nearest as stripes
from redoubt.networks import _peers as peers
from redoubt.networks import _streaming as streaming
from redoubt.networks import lenet5, resnet_cifar, wide_resnet
from redoubt.probes import timing
from redoubt.probes._turns import in_turn
from redoubt.study.entries.model import Training
from redoubt.training.loop import Trainer
from redoubt.training.resume import Resume

ROOT = Path(__file__).resolve().parent.parent
IN_A_ROW = {"cuda": 10, "cpu": 1}
STEPS = 4  # of an epoch of adversarial training here
SAMPLE = 512  # queries whose neighbours are compared with those in double precision
EPOCH = 391  # steps of 128 images in an epoch of CIFAR-10
CASES = {  # network, where its peer layers are, images of a training step, shape, fixed peers
    "PR-LeNet-5": (lenet5, ("conv1", "conv2"), 32, (1, 28, 28), 50),
    "PR-ResNet-32": (resnet_cifar, ("stage2", "stage3"), 64, (3, 32, 32), 100),
}
AIMS = {"training": 1.3, "inference": 1.5}
TILES = [
    streaming.Tile(32, 64, 4, "ieee"),
    streaming.Tile(32, 128, 4, "ieee"),
    streaming.Tile(16, 128, 4, "ieee"),
    streaming.Tile(64, 64, 4, "tf32x3"),
    streaming.Tile(64, 128, 4, "tf32x3"),
    streaming.Tile(64, 128, 8, "tf32x3"),
    streaming.Tile(128, 64, 8, "tf32x3"),
]


def timed(works: dict[str, Callable[[], object]], device: torch.device, repetitions: int = 5) -> dict[str, list[float]]:
    """Return the seconds of one step of each side, see `in_turn`."""
    count = IN_A_ROW[device.type]
    rows = {name: lambda work=work: [work() for _ in range(count)] for name, work in works.items()}
    times = in_turn(rows, repetitions, device)
    return {name: [taken / count for taken in each] for name, each in times.items()}


@contextmanager
def all_products() -> Iterator[None]:
    """Search as where there is no Triton."""
    takes, streaming.takes = streaming.takes, lambda *_: False
    try:
        yield
    finally:
        streaming.takes = takes


def by_all_products(work: Callable[[], object]) -> Callable[[], object]:
    """Return a function that does work without the kernel."""

    def done() -> object:
        with all_products():
            return work()

    return done


class Case:
    """A peer network with first weights, random images for it, and the same network without peer layers."""

    def __init__(self, name: str, device: torch.device) -> None:
        module, after, batch, shape, count = CASES[name]
        torch.manual_seed(0)
        images = torch.rand(max(100, count) + count, *shape).to(device, memory_format=torch.channels_last)
        network = module.build(module.Parameters(), shape, 10)
        made = peers.add_peer_regularization(network, after, shape, count, 1)
        made = made.to(device, memory_format=torch.channels_last)
        made.set_peers(images[-count:])
        options = timing.Parameters(peers=count)
        self.own, self.plain = timing.pair(made, images, options, torch.Generator().manual_seed(0))
        self.name, self.batch, self.count, self.images = name, batch, count, images
        self.labels = torch.arange(len(images), device=device) % 10

    def asked(self) -> Iterator[tuple[str, torch.Tensor, int]]:
        """Yield the name of each layer, the directions (P, d) of a training batch there, and its pixels an image."""
        seen: dict[str, torch.Tensor] = {}
        hooks = [
            layer.register_forward_pre_hook(lambda _, maps, name=name: seen.update({name: maps[0]}))
            for name, layer in self.own.layers.items()
        ]
        with torch.no_grad():
            self.own.train()(self.images[: self.batch])
        for hook in hooks:
            hook.remove()
        for name, maps in seen.items():
            yield name, peers.unit(peers.pixels(maps)), maps.shape[2] * maps.shape[3]


def agreement(found: torch.Tensor, values: torch.Tensor, rows: torch.Tensor, size: int, slack: float) -> str:
    """Say whether neighbours (P, K) of rows (P, d) are those in double precision, `size` pixels being an image."""
    some = torch.arange(0, len(rows), max(1, len(rows) // SAMPLE), device=rows.device)
    exact = rows[some].double() @ rows.double().T
    image = torch.arange(len(rows), device=rows.device) // size
    if (image[found] == image[:, None]).any():
        return "ANOTHER ANSWER: own pixels"
    exact[image[some][:, None] == image] = -torch.inf
    if any(len(set(row)) < len(row) for row in found[some].tolist()):
        return "ANOTHER ANSWER: a neighbour twice"
    reached, best = exact.gather(1, found[some]), exact.topk(found.shape[1], 1).values
    gap, error = float((reached - best).abs().max()), float((reached - values[some]).abs().max())
    verdict = "same answer" if gap <= 2 * slack and error <= slack else "ANOTHER ANSWER"
    return f"{verdict}: products within {error / 2**-24:.1f} u, neighbours within {gap / 2**-24:.1f} u of float64"


def search_rows(case: Case, device: torch.device) -> Iterator[dict]:
    """Compare the kernel with all products, on a training batch of each layer."""
    for layer, rows, size in case.asked():
        bounds = range(0, len(rows) + 1, size)
        count = peers.surely_enough(case.own.layers[layer].neighbours, 0.2)
        slack = streaming.tolerance(rows.shape[1])
        found, values = streaming.nearest(rows, rows, count, (bounds, bounds))
        told = {"kernel": agreement(found, values, rows, size, slack)}
        sides = {
            "all products": lambda r=rows, b=bounds, k=count: stripes.brute_force(r, r, k, (b, b)),
            "kernel": lambda r=rows, b=bounds, k=count: streaming.nearest(r, r, k, (b, b)),
        }
        told["all products"] = f"{len(rows)} pixels, d = {rows.shape[1]}, K = {count}"
        yield from page.compared(f"search, {case.name} {layer}", timed(sides, device, 3), "all products", told)


def tile_rows(case: Case, device: torch.device) -> Iterator[dict]:
    """Compare other ways to cut the work, on a training batch of each layer."""
    for layer, rows, size in case.asked():
        bounds = range(0, len(rows) + 1, size)
        count = peers.surely_enough(case.own.layers[layer].neighbours, 0.2)
        slack = streaming.tolerance(rows.shape[1])
        for tile in TILES:
            try:
                found, values = streaming.nearest(rows, rows, count, (bounds, bounds), tile=tile)
                told = {str(tuple(tile)): agreement(found, values, rows, size, slack)}
                sides = {str(tuple(tile)): lambda r=rows, b=bounds, k=count, t=tile: streaming.nearest(
                    r, r, k, (b, b), tile=t
                )}  # fmt: skip
                yield from page.compared(f"tile, {case.name} {layer}", timed(sides, device, 2), str(tuple(tile)), told)
            except Exception as error:
                yield failed(f"tile, {case.name} {layer}, {tuple(tile)}", error)


def ratio_rows(case: Case, device: torch.device) -> Iterator[dict]:
    """Compare a training step and inference with and without peer layers."""
    inputs, labels = case.images[: case.batch], case.labels[: case.batch]
    other = copy.deepcopy(case.own)
    steps = {
        case.name: timing.training_step(case.own.train(), inputs, labels),
        f"{case.name}, all products": by_all_products(timing.training_step(other.train(), inputs, labels)),
        "plain": timing.training_step(case.plain.train(), inputs, labels),
    }
    told = {case.name: f"target {AIMS['training']}"}
    yield from page.compared(f"training step, batch {case.batch}", timed(steps, device), "plain", told)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(False)
        del steps[f"{case.name}, all products"]
        what = f"training step, batch {case.batch}, any order of sums"
        yield from page.compared(what, timed(steps, device), "plain", {})
        torch.use_deterministic_algorithms(True, warn_only=True)
    inputs = case.images[: 100 if device.type == "cuda" else 3]
    asks = {
        case.name: timing.inference(case.own.eval(), inputs),
        f"{case.name}, all products": by_all_products(timing.inference(other.eval(), inputs)),
        "plain": timing.inference(case.plain.eval(), inputs),
    }
    told = {case.name: f"target {AIMS['inference']}"}
    yield from page.compared(
        f"inference, {len(inputs)} images, {case.count} peers", timed(asks, device, 3), "plain", told
    )


class Steps:
    """Adversarial training by the real loop, PGD with 7 steps, on random images of CIFAR's size."""

    def __init__(self, network: torch.nn.Module, device: torch.device, batch: int = 128) -> None:
        self.batch, self.device = batch, device
        pool = torch.rand(STEPS * batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.arange(len(pool), device=device) % 10
        self.network = network.to(device, memory_format=torch.channels_last)
        options = pgd_training.Parameters(steps=7)
        schedule = Training(
            epochs=1,
            batch_size=batch,
            learning_rate=0.01,
            weight_decay=5e-4,
            augmentation=["horizontal-flip", "random-crop"],
        )
        self.trainer = Trainer(
            network=self.network,
            defense=pgd_training.Defense(options, self.network),
            schedule=schedule,
            names=("benchmark", 0),
            batch=lambda positions: (pool[devices.sent(positions, device)], labels[devices.sent(positions, device)]),
            count=len(pool),
            evaluate=lambda: {"test_accuracy": 0.0},
            resume=Resume(None),
        )

    def __call__(self) -> None:
        """Train for an epoch of four steps."""
        self.trainer.done = 0
        self.trainer._epoch()

    def flops(self) -> float:
        """Return the floating-point operations of a step: 7 x 2 passes for the examples, 3 for the weights."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.network(torch.zeros(self.batch, 3, 32, 32, device=self.device))
        return 17 * counter.get_total_flops()


def product_speed(device: torch.device, side: int) -> float:
    """Return the operations a second of a matrix product in TF32: what this GPU can."""
    a, b = torch.randn(2, side, side, device=device)
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    try:
        (taken,) = timed({"product": lambda: a @ b}, device, 3).values()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * side**3 / min(taken)


def epoch_rows(what: str, build: Callable[[], torch.nn.Module], aim: float, device: torch.device) -> Iterator[dict]:
    """Measure steps of adversarial training; give the time of an epoch of 50 000 images, and the share of the limit."""
    tiny = device.type == "cpu"
    limit, work = product_speed(device, 256 if tiny else 8192), None
    for kind, repetitions in (("TF32", 2), ("float32", 1)):
        torch.manual_seed(0)
        steps = Steps(build(), device, 4 if tiny else 128)
        torch.backends.cudnn.allow_tf32 = kind == "TF32"
        try:
            taken = min(in_turn({"steps": steps}, repetitions, device)["steps"]) / STEPS
            work = work or steps.flops()
        finally:
            torch.backends.cudnn.allow_tf32 = True  # torch's default, which is what trainings run with
        facts = f"{1000 * taken:.1f} ms a step of {steps.batch}; convolutions in {kind}; "
        facts += f"{work / taken / 1e12:.3g} TFLOP/s, {work / taken / limit:.0%} of a TF32 product"
        told = f"; target {aim:g} s" if kind == "TF32" else ""
        yield {
            "what": f"{what}, PGD-7, epoch",
            "value": EPOCH * taken,
            "unit": "s",
            "ratio": 1.0,
            "facts": facts + told,
        }


def profile_rows(case: Case, device: torch.device) -> Iterator[dict]:
    """Name what a training step spends its time on."""
    from torch.profiler import ProfilerActivity, profile

    step = timing.training_step(case.own.train(), case.images[: case.batch], case.labels[: case.batch])
    step()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    count = IN_A_ROW[device.type]
    with profile(activities=kinds) as seen:
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
    spent = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    for event in sorted(seen.key_averages(), key=lambda event: -getattr(event, spent))[:14]:
        value = getattr(event, spent) / 1000 / count
        facts = f"{event.count // count} times a step"
        yield {
            "what": f"{case.name}, step, {event.key[:60]}",
            "value": value,
            "unit": "ms",
            "ratio": 1.0,
            "facts": facts,
        }


def failed(what: str, error: Exception) -> dict:
    """Return the row of a part that failed."""
    traceback.print_exception(error)
    words = " ".join(f"{type(error).__name__}: {error}".split())[:200].replace("|", "/")
    return {"what": what, "value": float("nan"), "unit": "", "ratio": float("nan"), "facts": f"FAILED: {words}"}


def parts(device: torch.device) -> Iterator[tuple[str, Callable[[], Iterator[dict]]]]:
    """Yield what is measured, the most wanted first."""
    cases: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in cases:
            cases[name] = Case(name, device)
        return cases[name]

    for name in CASES:
        yield f"search, {name}", lambda name=name: search_rows(case(name), device)
    for name in CASES:
        yield f"ratios, {name}", lambda name=name: ratio_rows(case(name), device)
    small = device.type == "cpu"
    resnet = resnet_cifar.Parameters(depth=8 if small else 20)
    wide = wide_resnet.Parameters(depth=10 if small else 28, widening=1 if small else 10)
    for what, module, options, aim in (("ResNet-20", resnet_cifar, resnet, 5), ("WRN-28-10", wide_resnet, wide, 45)):
        build = lambda module=module, options=options: module.build(options, (3, 32, 32), 10)  # noqa: E731
        yield what, lambda what=what, build=build, aim=aim: epoch_rows(what, build, aim, device)
    for name in CASES:
        yield f"profile, {name}", lambda name=name: profile_rows(case(name), device)
    for name in CASES:
        yield f"tiles, {name}", lambda name=name: tile_rows(case(name), device)


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="all parts on small networks, on a CPU")
    parser.add_argument("--seconds", type=float, default=85.0, help="no part starts after so many")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the page")
    options = parser.parse_args()
    start, rows = time.perf_counter(), []
    device = devices.choose("cpu" if options.tiny else "cuda", 1 if options.tiny else 8)
    if options.tiny:
        shrink()
    for what, part in parts(device):
        if time.perf_counter() - start > options.seconds:
            print(f"{what}: left out, {options.seconds:g} s are over", flush=True)
            continue
        try:
            for row in part():
                rows.append(row)
                print(f"{row['what']}: {row['value']:.4g} {row['unit']}, {row['ratio']:.2f} {row['facts']}", flush=True)
        except Exception as error:
            rows.append(failed(what, error))
        print(f"-- {what}: {time.perf_counter() - start:.0f} s so far", flush=True)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU, tiny"
    page.write(rows, f"{name}, torch {torch.__version__}", options.out, "gpu")
    return 0


def shrink() -> None:
    """Make everything small, and have plain products stand in for the kernel, which a CPU cannot run."""
    for name, (module, after, _, shape, _) in list(CASES.items()):
        CASES[name] = (module, after, 3, shape, 2)

    def nearest(queries, candidates, count, own, shares=None, tile=None):
        found = stripes.brute_force(queries, candidates, count, own)
        return found, torch.einsum("qd,qkd->qk", queries, candidates[found])

    streaming.nearest = nearest


if __name__ == "__main__":
    sys.exit(main())
