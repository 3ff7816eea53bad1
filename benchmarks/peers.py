"""What peer layers cost, in ratios: against the same network without them, and against a layer as first written down.

Part of `make bench`; by itself: `python benchmarks/peers.py`. The sides of a ratio take turns in one process; peak
memory is that of a process for each. Peer networks are trained ones; images are real where a mirror has them.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import search
import torch
from page import compared, machine, write

from redoubt.data import sources, store
from redoubt.networks import _peers as peers
from redoubt.probes import timing
from redoubt.probes._turns import in_turn
from redoubt.study.catalog import load

ROOT = Path(__file__).resolve().parent.parent
FOUND = {"mnist": ["mnist", "digits"], "cifar10": ["cifar10", "cifar10-jpeg", "digits-rgb"]}  # the best at hand
LAYER = {"channels": 32, "side": 16, "images": 10}  # the first peer layer of PR-ResNet-32, and images that ask it
PEERS = (50, 100, 500)
ASKED, BATCHES = 100, {"lenet5": 32, "resnet": 64}  # images of an inference, and of a training step
FORGET = Path("/proc/self/clear_refs")


def naive(layer: peers.PeerRegularization, maps: torch.Tensor, candidates: torch.Tensor | None = None) -> torch.Tensor:
    """Do what a peer layer does in a few lines, with the matrix of all similarities.

    Args:
        layer: has the weights.
        maps: (B, d, H, W).
        candidates: (P, d) pixels of fixed peers; without, the batch is its own graph, as in training.
    """
    queries, size = peers.pixels(maps), maps.shape[2] * maps.shape[3]
    pool = queries if candidates is None else candidates
    similarity = peers.unit(queries.detach()) @ peers.unit(pool.detach()).T
    if candidates is None:
        image = torch.arange(len(maps), device=maps.device).repeat_interleave(size)
        similarity[image[:, None] == image] = -torch.inf
        if layer.training:
            similarity[torch.rand_like(similarity) < layer.edge_dropout] = -torch.inf
    found = similarity.topk(layer.neighbours, 1).indices
    mixed = (layer.weights(queries, pool, found)[:, :, None] * pool[found]).sum(1)
    return mixed.view(len(maps), *maps.shape[2:], -1).permute(0, 3, 1, 2)


def images_of(name: str, folder: Path, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Return the first training images in [0, 1] and labels of a dataset, or of what stands in for it, and which."""
    mirrors = load(ROOT, {"scale": "paper"}).mirrors
    near = [] if "official" in mirrors else mirrors  # nothing is downloaded to measure speed
    found = next(each for each in FOUND[name] if sources.unavailable(each, near, None, folder / each) is None)
    if not (folder / found / "meta.json").exists():
        command = [sys.executable, "-m", "redoubt.steps.download", "--dataset", found, "--folder", str(folder / found)]
        subprocess.run(command, check=True, cwd=ROOT)
    split = store.load(folder / found, "train")
    return split.images(slice(0, count)).to(device).float() / 255.0, split.labels[:count].to(device), found


def resnet_rows(folder: Path, device: torch.device, repetitions: int) -> list[dict]:
    """Compare PR-ResNet-32 with ResNet-32: a training step of 64 images, inference on 100 with 100 peers."""
    batch = BATCHES["resnet"]
    images, labels, source = images_of("cifar10", folder, 300, device)
    inputs = search.standardised(images).contiguous(memory_format=torch.channels_last)
    network = search.model("resnet-cifar", ("stage2", "stage3"), inputs[ASKED:], 100)
    own, plain = timing.pair(network, inputs, timing.Parameters(), torch.Generator().manual_seed(0))
    sides = {"PR-ResNet-32": own.train(), "ResNet-32": plain.train()}
    works = {name: timing.training_step(side, inputs[:batch], labels[:batch]) for name, side in sides.items()}
    told = {"ResNet-32": source, "PR-ResNet-32": "paper 2.14"}
    times = in_turn(works, repetitions, device)
    rows = compared(f"training step, batch {batch}", times, "ResNet-32", told)
    works = {name: timing.inference(side.eval(), inputs[:ASKED]) for name, side in sides.items()}
    works["PR-ResNet-32, peers recomputed"] = timing.recomputed(own, inputs[:ASKED])
    told = {"ResNet-32": source, "PR-ResNet-32": "paper 3.75"}
    times = in_turn(works, repetitions, device)
    return rows + compared(f"inference, batch {ASKED}, 100 peers", times, "ResNet-32", told)


def lenet_rows(folder: Path, device: torch.device, repetitions: int) -> list[dict]:
    """Compare PR-LeNet-5 with LeNet-5 in a training step of 32 images, and with naive layers in one or two."""
    batch = BATCHES["lenet5"]
    images, labels, source = images_of("mnist", folder, 200, device)
    network = search.model("lenet5", ("conv1", "conv2"), images[ASKED:], 100)
    own, plain = timing.pair(network, images, timing.Parameters(), torch.Generator().manual_seed(0))
    full, _ = timing.pair(network, images, timing.Parameters(), torch.Generator().manual_seed(0))
    for layer in full.layers.values():
        layer.forward = lambda maps, layer=layer: naive(layer, maps)
    sides = {"PR-LeNet-5": own, "LeNet-5": plain, "PR-LeNet-5 with naive layers": full}
    works = {name: timing.training_step(side.train(), images[:batch], labels[:batch]) for name, side in sides.items()}
    slow = works.pop("PR-LeNet-5 with naive layers")
    rows = compared(
        f"training step, batch {batch}", in_turn(works, repetitions, device), "LeNet-5", {"LeNet-5": source}
    )
    both = {"ours": works["PR-LeNet-5"], "naive": slow}
    times = in_turn(both, max(1, repetitions // 3), device)
    rows += compared("training step of PR-LeNet-5, layers", times, "naive", {})
    fifty = peers.PeerNetwork(own.network, own.layers, tuple(images.shape[1:]), 50, 1)
    fifty.set_peers(images[ASKED:])
    works = {
        "PR-LeNet-5": timing.inference(fifty.eval(), images[:ASKED]),
        "LeNet-5": timing.inference(plain.eval(), images[:ASKED]),
    }
    times = in_turn(works, repetitions, device)
    return rows + compared(f"inference, batch {ASKED}, 50 peers", times, "LeNet-5", {"LeNet-5": source})


def asked(kind: str, count: int, device: torch.device) -> Callable[[], torch.Tensor]:
    """Return a function that asks a peer layer with `count` fixed peers, `ours` or `naive`, for some images."""
    draw, side = torch.Generator().manual_seed(0), LAYER["side"]

    def maps(images: int) -> torch.Tensor:
        drawn = torch.randn(images, LAYER["channels"], side, side, generator=draw).relu()
        return drawn.to(device, memory_format=torch.channels_last)

    torch.manual_seed(0)
    layer = peers.PeerRegularization(LAYER["channels"]).to(device).eval()
    known = peers.PeerFeatures.of(maps(count), layer.neighbours)
    queries = maps(LAYER["images"])

    def ask() -> torch.Tensor:
        with torch.no_grad():
            if kind == "ours":
                return layer.link(queries, known)
            return peers.pixels(naive(layer, queries, known.features))

    return ask


def mebibytes(device: torch.device) -> float:
    """Return the most memory that this process has had so far; on a GPU, the most that tensors have taken."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")  # getrusage counts what the parent had when it forked
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def memory(kind: str, count: int, device: torch.device) -> float:
    """Return by how many MiB the peak of this process rises when the layer is asked once."""
    ask = asked(kind, count, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(FORGET, os.W_OK):
        ctypes.CDLL(None).malloc_trim(0)  # memory that was freed would be taken again without a trace
        FORGET.write_text("5")  # the peak so far becomes what is in use now
    before = mebibytes(device)
    ask()
    return mebibytes(device) - before


def alone(kind: str, count: int, device: torch.device) -> float:
    """Return `memory` in a process of its own."""
    command = [sys.executable, __file__, "--memory", kind, "--peers", str(count), "--device", device.type]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return float(subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout)


def layer_rows(device: torch.device, repetitions: int) -> list[dict]:
    """Compare the layer with the naive one as the number of peers grows."""
    rows = []
    for count in PEERS:
        works = {kind: asked(kind, count, device) for kind in ("ours", "naive")}
        ours, theirs = (works[kind]() for kind in ("ours", "naive"))
        if not torch.allclose(ours, theirs, atol=1e-4):
            raise AssertionError(f"{count} peers: the two layers differ by {float((ours - theirs).abs().max())}")
        told = {}
        for kind in works:
            told[kind] = f"{alone(kind, count, device):.0f} MiB at the peak"
        times = in_turn(works, max(1, repetitions // 2), device)
        rows += compared(f"peer layer, {LAYER['images']} images, {count} peers", times, "naive", told)
    return rows


def rows(folder: Path, device: torch.device, repetitions: int = 7) -> list[dict]:
    """Return all rows; datasets are published under `folder`."""
    made = resnet_rows(folder, device, repetitions)
    made += lenet_rows(folder, device, repetitions) + layer_rows(device, repetitions)
    return made + search.rows(images_of, folder, device, repetitions)


def main() -> int:
    """Measure, print and write, or measure the memory of one layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--memory", choices=["ours", "naive"], help="print the peak in MiB of one such layer")
    parser.add_argument("--peers", type=int, default=100, help="for --memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")
    if options.memory:
        print(memory(options.memory, options.peers, device))
        return 0
    where = f"{machine(device.type, options.threads)}, peer networks"
    with tempfile.TemporaryDirectory() as name:
        write(rows(Path(name), device, options.repetitions), where, ROOT / "benchmarks/results", f"{device.type}-peers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
