"""Measured speed, side by side in one run: `make bench` prints a table and writes it to benchmarks/results/.

Ratios are what to look at: the seconds depend on the machine and on what else runs on it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import noise
import page
import peers
import plain
import torch

from redoubt import registry
from redoubt.attacks import universal
from redoubt.data import store
from redoubt.defenses.clean import Defense as Plain
from redoubt.defenses.clean import Parameters as NoParameters
from redoubt.defenses.interface import Batch
from redoubt.evaluation.craft import craft
from redoubt.models import classifier
from redoubt.models.weights import load_model
from redoubt.steps import prepare
from redoubt.study.catalog import load
from redoubt.study.entries.model import ModelEntry
from redoubt.training.fit import fit

ROOT = Path(__file__).resolve().parent.parent
PGD = {"epsilons": [0.3], "steps": 40, "relative_step_size": 1 / 30}
# Title, attack, images, our parameters, and Foolbox's where they differ, or a plain loop.
ATTACKS = [
    ("PGD-40, epsilon 0.3", "pgd", 400, PGD, {"stop": False}),
    ("PGD-40, epsilon 0.3, to the end", "pgd", 400, {**PGD, "stop": False}, {}),
    ("DeepFool-50", "deepfool", 200, {"iterations": 50}, {}),
    ("Carlini-Wagner, 4 x 200", "carlini-wagner", 100, {"searches": 4, "steps": 200}, {}),
    ("DDN-100", "ddn", 200, {"loss": "cross-entropy", "shorten": False}, {}),
    ("FMN-100, l-infinity", "fmn", 200, {"norm": "linf", "shorten": False}, {}),
    ("grid 31 x 5 x 5", "spatial", 100, {"method": "grid"}, plain.grid),
    ("3 pixels, 400 x 75", "few-pixel", 4, {"pixels": [3]}, plain.few_pixel),
]
THREADS = min(2, os.cpu_count() or 1)
CATALOG = "from redoubt.study import catalog; catalog.load('.', {'scale': 'paper'})"
BARE, WARM = "start of a Python process", "start of a training job, warm"
ONE, ELEVEN = "one warm start", "eleven warm starts"


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median wall time of `work` after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def dataset(folder: Path, name: str | None = None) -> Path:
    """Publish a dataset, MNIST where a mirror has it, the embedded digits elsewhere, and return its folder."""
    catalog = load(ROOT, {"scale": "paper"})
    near = catalog.models["mnist-lenet-reference"].missing is None and "official" not in catalog.mirrors
    name = name or ("mnist" if near else "digits")
    command = [sys.executable, "-m", "redoubt.steps.download", "--dataset", name, "--folder", str(folder / name)]
    subprocess.run(command, check=True, cwd=ROOT)
    return folder / name


def trained(
    data: Path, folder: Path, device: str, epochs: int | None = None, network: dict | None = None
) -> classifier.Classifier:
    """Train the published LeNet, or another network, for two epochs of MNIST or 30 of digits; it is in eval mode."""
    entry = load(ROOT, {"scale": "paper"}).models["mnist-lenet-reference"].entry.dump()
    entry["network"] = network or entry["network"]
    entry["training"] |= {"epochs": epochs or (2 if data.name == "mnist" else 30)}
    learned = folder / "preprocessing.safetensors"
    named = json.dumps(ModelEntry.parse(entry).preprocessing.dump())
    prepare.main(["--entry", named, "--data", str(data), "--out", str(learned)])
    fit(entry, 0, data, learned, folder, None, device, THREADS, folder / "resume")
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    return load_model(folder / "weights.safetensors", learned, where)[0]


def measured(work: Callable[[], torch.Tensor], model, images, labels) -> tuple[float, float, float]:
    """Return images/s, the share that is misclassified, and the mean l2 norm over those that the attack made so."""
    start = time.perf_counter()
    crafted = work()
    took = time.perf_counter() - start
    with torch.no_grad():
        right = model(images).argmax(1) == labels
        wrong = model(crafted).argmax(1) != labels
    norms = (crafted - images).flatten(1).norm(dim=1)[right & wrong]
    return len(images) / took, float(wrong.float().mean()), float(norms.mean()) if len(norms) else float("nan")


def attack_rows(model: classifier.Classifier, data: Path, attacks: Sequence[tuple] = ATTACKS) -> list[dict]:
    """Compare our attacks with Foolbox's, or with plain loops over images where it has none, on images in [0, 1]."""
    where = next(model.parameters()).device
    split = store.load(data, "test")
    images, labels = split.images(slice(0, 1000)).to(where).float() / 255.0, split.labels[:1000].to(where)
    rows = []
    for title, attack, count, options, rival in attacks:
        x, y = images[:count], labels[:count]

        def ours(x=x, y=y, attack=attack, options=options):
            return craft(attack, model, x, y, **options).images

        def theirs(x=x, y=y, attack=attack, options=options, rival=rival):
            if isinstance(rival, dict):
                return craft(attack, model, x, y, engine="foolbox", **{**options, **rival}).images
            return rival(model, x, y)

        ours(images[:4], labels[:4])
        found = {"ours": measured(ours, model, x, y)}
        found["Foolbox" if isinstance(rival, dict) else "plain loop"] = measured(theirs, model, x, y)
        _, (rival_speed, _, _) = found.values()
        for name, (speed, success, l2) in found.items():
            facts = f"{count} images, success {success:.3f}, mean l2 {l2:.3f}"
            what = {"what": f"{title}, {name}", "value": speed, "unit": "images/s"}
            rows.append({**what, "ratio": speed / rival_speed, "facts": facts})
    return rows


def universal_rows(model: classifier.Classifier, data: Path, count: int = 200) -> list[dict]:
    """Compare universal perturbations of one radius, two passes over the same training images."""
    where = next(model.parameters()).device
    images = store.load(data, "train").images(slice(0, count)).to(where).float() / 255.0
    test = store.load(data, "test").images(slice(0, 500)).to(where).float() / 255.0
    radius = 0.4 * float(images.flatten(1).norm(dim=1).mean())
    options = universal.Parameters(rhos=[0.4], passes=2, target=1.0)
    makers = {
        "ours": lambda: universal.craft(model, images, options, radius, torch.Generator().manual_seed(0))[0],
        "plain loop": lambda: plain.universal(model, images, radius, 2, target=1.0),
    }
    found = {}
    with torch.no_grad():
        clean = model(test).argmax(1)
    for name, make in makers.items():
        start = time.perf_counter()
        v = make()
        took = time.perf_counter() - start
        with torch.no_grad():
            fooled = float((model((test + v).clamp(0, 1)).argmax(1) != clean).float().mean())
        found[name] = (2 * count / took, f"{count} images, 2 passes, fools {fooled:.3f} of 500 test images")
    return [
        {
            "what": f"universal, rho 0.4, {name}",
            "value": speed,
            "unit": "images/s",
            "ratio": speed / found["plain loop"][0],
            "facts": facts,
        }
        for name, (speed, facts) in found.items()
    ]


def step_rows(model: classifier.Classifier, data: Path, repeats: int = 5) -> list[dict]:
    """Compare a DeepDefense training step with a plain one, batch 100."""
    where = next(model.parameters()).device
    split = store.load(data, "train")
    inputs = model.preprocessing(split.images(slice(0, 100)).to(where).float() / 255.0).detach()
    batch = Batch(inputs, split.labels[:100].to(where), torch.arange(len(inputs)))
    module = registry.method("defenses", "deepdefense")
    defenses = {
        "plain": Plain(NoParameters(), model.network),
        "DeepDefense": module.Defense(module.Parameters(), model.network),
    }
    times = {}
    for name, defense in defenses.items():

        def step(defense=defense) -> None:
            model.network.zero_grad()
            defense.loss(batch, noise.MOMENT)[0].backward()

        times[name] = seconds(step, repeats)
    return [
        {
            "what": f"LeNet training step, {name}",
            "value": 1000 * value,
            "unit": "ms",
            "ratio": value / times["plain"],
            "facts": "",
        }
        for name, value in times.items()
    ]


def starts() -> dict[str, tuple[Callable[[], object], str]]:
    """Return what every job does before it works, and what builds the graph of all studies at paper scale."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "REDOUBT_DATA_MIRROR": "official"}

    def run(*command: str) -> Callable[[], object]:
        return lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)

    def warm(jobs: int) -> Callable[[], object]:
        command = "; ".join(["python -m redoubt.steps.train --help"] * jobs)
        return run(sys.executable, "-m", "redoubt.graph.warm", "bash", "-c", command)

    snakemake = (sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--config", "scale=paper")
    return {
        BARE: (run(sys.executable, "-c", "pass"), ""),
        "start of a training job": (run(sys.executable, "-m", "redoubt.steps.train", "--help"), "cold"),
        ONE: (warm(1), "as in `make demo`"),
        ELEVEN: (warm(11), "as in `make demo`"),
        "catalog at paper scale": (run(sys.executable, "-c", CATALOG), "no torch"),
        "dry run at paper scale": (run(*snakemake), "whole graph"),
    }


def start_rows(repeats: int = 3) -> list[dict]:
    """Measure `starts`."""
    times = {what: (seconds(work, repeats), facts) for what, (work, facts) in starts().items()}
    (one, facts), (eleven, _) = times.pop(ONE), times.pop(ELEVEN)
    times[WARM] = ((eleven - one) / 10, facts)
    bare = times[BARE][0]
    return [
        {"what": what, "value": value, "unit": "s", "ratio": value / bare, "facts": facts}
        for what, (value, facts) in times.items()
    ]


def demo_rows(start: float) -> list[dict]:
    """Run the demo in a copy of the tracked files; measure wall and CPU time and the share of job start-up."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "copy"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        snakemake = ("snakemake", "--cores", str(THREADS), "--quiet", "all", "--config", "scale=demo")
        command = [sys.executable, "-m", "redoubt.graph.warm", sys.executable, "-m", *snakemake]
        subprocess.run(command, cwd=copy, check=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        jobs = len(list((copy / "logs/benchmarks/demo").rglob("*.tsv")))
        shutil.rmtree(copy)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    share = jobs * start / cpu
    return [
        {"what": "demo, wall", "value": wall, "unit": "s", "ratio": 1.0, "facts": f"{THREADS} cores"},
        {
            "what": "demo, CPU",
            "value": cpu,
            "unit": "s",
            "ratio": cpu / wall,
            "facts": f"{jobs} torch jobs, their start-up {share:.0%}",
        },
    ]


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--skip-demo", action="store_true", help="leave out the run of the whole demo")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        data = dataset(Path(name) / "data")
        model = trained(data, Path(name) / "model", options.device)
        rows = attack_rows(model, data) + universal_rows(model, data) + step_rows(model, data)
        rows += noise.rows(next(model.parameters()).device)
        beside = peers.rows(Path(name) / "data", next(model.parameters()).device)
        rows += start_rows()
    if not options.skip_demo:
        rows += demo_rows(next(row["value"] for row in rows if row["what"] == WARM))
    device = next(model.parameters()).device.type
    where = page.machine(device, THREADS)
    page.write(rows, f"{where}, LeNet on {data.name}", ROOT / "benchmarks/results", device)
    page.write(beside, f"{where}, peer networks", ROOT / "benchmarks/results", f"{device}-peers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
