"""Timing, a probe of a finished model: what peer layers cost, as ratios to the same network without them.

It perturbs nothing, and its rows differ from run to run. Three things are timed: a training step (forward, backward,
SGD), inference, and inference with the features of the fixed peers computed again, which otherwise are kept from batch
to batch. The two networks take turns, so that what else runs on the machine slows down both.

Source: PeerNets (Svoboda et al., ICLR 2019), section 4.3, "Timing". Deviation: the text does not tell the number of
draws at inference; one is timed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from redoubt.attacks import interface
from redoubt.errors import RedoubtError
from redoubt.lazily import lazy, torch
from redoubt.probes import peer_graph
from redoubt.probes._turns import in_turn
from redoubt.records import Strict

if TYPE_CHECKING:
    from redoubt.networks import _peers as peers
else:
    peers = lazy("redoubt.networks._peers")

NEEDS = "the network"
THREAT = "none: it perturbs nothing"
COST = "1 + repetitions training steps and twice as many inference batches, of two networks, whatever the images"
ENGINES = ("redoubt",)
REPRODUCIBLE = False

Count = Annotated[int, Field(gt=0)]


class Parameters(Strict):
    """What is timed, and how often."""

    batch: Count = Field(64, description="images of a training step; 64 with ResNet-32 and 32 with LeNet-5 in PeerNets")
    inference_batch: Count = Field(100, description="images of an inference batch")
    peers: Count | None = Field(100, description="N at inference; the model's own when null")
    draws: Count | None = Field(1, description="M at inference; the model's own when null")
    repetitions: Count = Field(7, description="measurements of each, after one that does not count")


def without_peers(network: torch.nn.Module) -> torch.nn.Module:
    """Take the peer layers out of a network, in place, and return it."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, peers.PeerRegularization):
                setattr(parent, name, torch.nn.Identity())
    return network


def pair(
    network: peers.PeerNetwork, inputs: torch.Tensor, parameters: Parameters, generator: torch.Generator
) -> tuple[peers.PeerNetwork, torch.nn.Module]:
    """Return two copies of a network: with other fixed peers, and without peer layers.

    The peers are the model's own, and further `inputs` (B, C, H, W) where those do not suffice.

    Raises:
        RedoubtError: there are too few of both.
    """
    count, draws = parameters.peers or network.count, parameters.draws or network.draws
    pool = network.peers if len(network.peers) >= count else torch.cat([network.peers, inputs])
    if len(pool) < count:
        raise RedoubtError(f"timing: {count} peers asked for; model and images have {len(pool)}; raise select.images")
    plain = without_peers(copy.deepcopy(network.network))
    whole = copy.deepcopy(network)
    fresh = peers.PeerNetwork(whole.network, whole.layers, tuple(pool.shape[1:]), count, draws, network.average)
    fresh = fresh.to(pool.device)
    fresh.set_peers(pool, generator)
    return fresh, plain


def training_step(network: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Return a function that takes one training step of a network in training mode."""
    optimizer = torch.optim.SGD(network.parameters(), 0.001, 0.9)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(network(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def inference(network: torch.nn.Module, inputs: torch.Tensor) -> Callable[[], None]:
    """Return a function that takes one batch through a network in eval mode."""

    def infer() -> None:
        with torch.no_grad():
            network(inputs)

    return infer


def recomputed(network: peers.PeerNetwork, inputs: torch.Tensor) -> Callable[[], None]:
    """Return a function that does so with the features of the peers computed again."""

    def infer() -> None:
        with torch.no_grad():
            network.peers.copy_(network.peers.clone())  # features are kept until peers change
            network(inputs)

    return infer


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the first images as they are, three times, each image with one measurement.

    Facts: what (`training`, `inference`, or `inference, peers recomputed`), seconds and seconds_plain of one
    measurement, with peer layers and without; batch_size, peers, draws, device and threads.

    Raises:
        RedoubtError: the model has no peer layers, or there are fewer images than a batch or the repetitions.
    """
    images, labels = (torch.cat(part) for part in zip(*((x, y) for _, x, y in batches), strict=True))
    needed = max(parameters.batch, parameters.inference_batch, parameters.repetitions)
    if len(images) < needed:
        raise RedoubtError(f"timing: {needed} images needed, {len(images)} are attacked; raise select.images")
    peer, device = peer_graph.peer_network(network), images.device
    with torch.no_grad():
        inputs = network.preprocessing(images[:needed]) if hasattr(network, "preprocessing") else images[:needed]
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(context.generator.initial_seed())
        times = _measured(peer, inputs, labels, parameters, context.generators([0], "timing")[0])
    facts = {"device": device.type, "threads": torch.get_num_threads()}
    for what, (own, plain) in times.items():
        training = what == "training"
        facts |= {"what": what, "batch_size": parameters.batch if training else parameters.inference_batch}
        facts |= {"peers": facts["batch_size"] if training else parameters.peers or peer.count}
        facts |= {"draws": 1 if training else parameters.draws or peer.draws, "seconds": own, "seconds_plain": plain}
        yield interface.Crafted(0, images[: parameters.repetitions], dict(facts))


def _measured(
    peer: peers.PeerNetwork,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    parameters: Parameters,
    generator: torch.Generator,
) -> dict[str, tuple[list[float], list[float]]]:
    """Return by what is timed the seconds with peer layers, and those without."""
    own, plain = pair(peer, inputs, parameters, generator)
    found = {}
    batch, labels = inputs[: parameters.batch], labels[: parameters.batch]
    works = {name: training_step(part.train(), batch, labels) for name, part in (("own", own), ("plain", plain))}
    times = in_turn(works, parameters.repetitions, inputs.device)
    found["training"] = times["own"], times["plain"]
    batch = inputs[: parameters.inference_batch]
    works = {
        "own": inference(own.eval(), batch),
        "plain": inference(plain.eval(), batch),
        "recomputed": recomputed(own, batch),
    }
    times = in_turn(works, parameters.repetitions, inputs.device)
    found["inference"], found["inference, peers recomputed"] = (
        (times["own"], times["plain"]),
        (times["recomputed"], times["plain"]),
    )
    return found
