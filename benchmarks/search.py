"""The search of peer layers alone, on features of real layers: ours beside stripes, naive, and faiss where it is.

All sides find the same: the K-th similarity of every query is compared, or the row is not written.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from redoubt import registry
from redoubt.networks import _boxes as boxes
from redoubt.networks import _nearest as stripes
from redoubt.networks import _peers as peers
from redoubt.networks._compiled import available
from redoubt.networks._scan import Scan
from redoubt.probes._turns import in_turn, ratio

ROOT = Path(__file__).resolve().parent.parent
TRAINED = {
    "lenet5": "results/reference/readings-mnist/models/mnist-lenet5-peernet/seed-0/weights.safetensors",
    "resnet-cifar": "benchmarks/pr-resnet-32.safetensors",  # of readings-cifar10-jpeg, without its peers
}
CASES = (("mnist", "lenet5", ("conv1", "conv2")), ("cifar10", "resnet-cifar", ("stage2", "stage3")))
PEERS = (50, 500)
SAME = 1e-5  # of similarities


def faiss_flat(queries: torch.Tensor, candidates: torch.Tensor, count: int) -> torch.Tensor | None:
    """Return what faiss finds by brute force, or None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatIP(candidates.shape[1])
    index.add(candidates.numpy())
    return torch.from_numpy(index.search(queries.numpy(), count)[1])


def naive(queries: torch.Tensor, candidates: torch.Tensor, count: int) -> torch.Tensor:
    """Return the nearest by the matrix of all similarities."""
    return (queries @ candidates.T).topk(count, 1).indices


def model(name: str, after: tuple[str, ...], images: torch.Tensor, count: int) -> peers.PeerNetwork:
    """Return a peer network of the reference results, with one draw of `count` peers from images (N, C, H, W).

    Images of the residual network are standardised, see `standardised`.
    """
    method = registry.method("networks", name)
    network = method.build(method.Parameters(), tuple(images.shape[1:]), 10)
    made = peers.add_peer_regularization(network, after, tuple(images.shape[1:]), count, 1)
    weights = load_file(ROOT / TRAINED[name])
    made.load_state_dict({**weights, "peers": made.peers})
    made = made.to(images.device, memory_format=torch.channels_last)
    made.set_peers(images, torch.Generator().manual_seed(0))
    return made


def standardised(images: torch.Tensor) -> torch.Tensor:
    """Return images (N, C, H, W) with mean 0 and deviation 1 in every channel."""
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


def asked(network: peers.PeerNetwork, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor, peers.PeerFeatures]]:
    """Yield, for each layer, its name, the directions that some images ask for, and the fixed peers."""
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, maps, name=name: seen.update({name: maps[0]}))
        for name, layer in network.layers.items()
    ]
    with torch.no_grad():
        known = network.eval()._features()
        network(images)
    for hook in hooks:
        hook.remove()
    for name in network.layers:
        queries = peers.pixels(seen[name])
        rows, _ = stripes.distinct(*stripes.duplicates(queries), torch.zeros(len(queries), dtype=torch.int64))
        yield name, peers.unit(queries[rows]), known[name][0]


def chosen(candidates: torch.Tensor) -> str:
    """Return which kind of search peer layers take among candidates (P, d)."""
    kinds = {boxes.Index: "boxes", Scan: "passes", type(None): "stripes"}
    return kinds[type(stripes.index_of(candidates))]


def compared(what: str, sides: dict[str, Callable], queries, candidates, repetitions: int) -> list[dict]:
    """Return a row for each side; ratios are to stripes, measured beside it."""
    kth = [(queries * candidates[side()[:, -1]]).sum(1) for side in sides.values()]
    for name, found in zip(sides, kth, strict=True):
        if not torch.allclose(found, kth[0], atol=SAME, rtol=0):
            raise AssertionError(f"{what}, {name}: another answer")
    times = in_turn(sides, repetitions, torch.device("cpu"))
    kind = chosen(candidates)
    return [
        {
            "what": f"search, {what}, {name}",
            "value": 1000 * statistics.median(taken),
            "unit": "ms",
            "ratio": ratio(taken, times["stripes"]),
            "facts": f"{len(queries)} queries, {len(candidates)} candidates, d = {queries.shape[1]}, same answer"
            + ", chosen" * name.startswith(kind),
        }
        for name, taken in times.items()
    ]


def rows(images_of: Callable, folder: Path, device: torch.device, repetitions: int = 7) -> list[dict]:
    """Return rows for each layer of two networks, with 50 and 500 peers; nothing on a GPU."""
    if device.type != "cpu":
        return []
    made = []
    for (data, name, after), count in itertools.product(CASES, PEERS):
        images, _, _ = images_of(data, folder, count + 10, device)
        images = standardised(images) if name == "resnet-cifar" else images
        for layer, queries, draw in asked(model(name, after, images[10:], count), images[:10]):
            known, total = draw.directions, ((0, len(queries)), (0, 0))
            sides = {"stripes": lambda q=queries, c=known, own=total: stripes.brute_force(q, c, 10, own)}
            if available():
                index, copy = boxes.Index(known), Scan(known)
                sides["passes"] = lambda q=queries, i=copy: i.nearest(q, 10)[0]
                sides["boxes, index kept"] = lambda q=queries, i=index: i.nearest(q, 10)[0]
                sides["boxes, index built"] = lambda q=queries, c=known: boxes.Index(c).nearest(q, 10)[0]
            if len(queries) * len(known) < 1 << 28:
                sides["naive"] = lambda q=queries, c=known: naive(q, c, 10)
            if faiss_flat(queries[:1], known, 1) is not None:
                sides["faiss flat"] = lambda q=queries, c=known: faiss_flat(q, c, 10)
            made += compared(f"{layer}, 10 images, {count} peers", sides, queries, known, repetitions)
    return made
