"""Peer gradients, a probe of a finished model: how large its input gradients are, and why those of peer layers vanish.

It perturbs nothing. With fixed peers an image acts on a layer's output through attention alone. For a query q with
neighbours x_k, scores a_k = w q + v x_k + b and attention alpha = softmax(phi(a)), the derivative of the output along
q is the sum over k of alpha_k (phi'(a_k) - m) (x_k - c) w, where m and c are the means of phi'(a) and of x under alpha.
It is a product of two differences between neighbours: of their slopes, which are a matter of their scores, and of
their features. Neighbours that are nearly equal make both small, whatever phi is; where phi is linear over all scores
of a pixel (LeakyReLU of one sign) the first is zero. So the spread of the neighbours is reported, and how far attention
is from 1/K.

Source: our own; gradients that take the layers as the identity are those of Athalye et al. (ICML 2018), section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface
from redoubt.lazily import lazy, torch
from redoubt.probes import peer_graph
from redoubt.records import Strict

if TYPE_CHECKING:
    from redoubt.networks import _peers as peers
    from redoubt.networks import _stand_ins as stand_ins
else:
    peers = lazy("redoubt.networks._peers")
    stand_ins = lazy("redoubt.networks._stand_ins")

NEEDS = "gradients"
THREAT = "none: it perturbs nothing"
COST = "two forward and backward passes, and a forward pass for each layer"
ENGINES = ("redoubt",)
SWEEP = {"layer": "layers"}

Place = Annotated[int, Field(ge=0)]


class Parameters(Strict):
    """Which layers are looked at."""

    layers: Annotated[list[Place], Field(min_length=1)] = Field(
        [0, 1], description="peer layers, by their place in the network"
    )
    draw: Place = Field(0, description="which draw of fixed peers the links are those of")


def spread(neighbours: torch.Tensor) -> torch.Tensor:
    """Return how far K features (..., K, d) are from their mean, as a share of their size; (...), zero where all are.

    That is the root of the mean squared distance over the root of the mean squared length.
    """
    apart = (neighbours - neighbours.mean(-2, keepdim=True)).square().sum(-1).mean(-1)
    return (apart / neighbours.square().sum(-1).mean(-1).clamp(min=1e-30)).sqrt()


def distance_from_even(attention: torch.Tensor) -> torch.Tensor:
    """Return the total variation between attention (..., K) and 1/K: 0 when it is even, 1 - 1/K when all is on one."""
    return (attention - 1 / attention.shape[-1]).abs().sum(-1) / 2


def gradient_norms(model: Callable, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the l2 norm (B,) of each image's gradient of the log-odds at the label."""
    return losses.Goal("log-odds").gradient(model, inputs, labels)[2].flatten(1).double().norm(dim=1)


def passing_by(model: Callable, network: peers.PeerNetwork, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return these norms (B,) with the peer layers as the identity in the backward pass."""
    with stand_ins.replaced(network, stand_ins.identity):
        return gradient_norms(model, inputs, labels)


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the images as they are, once for each layer.

    Facts: layer, its place; and for each image (B,), gradient and gradient_straight_through, l2 norms in units of the
    attacked space; spread, the mean of `spread` over the layer's pixels; attention_distance, that of
    `distance_from_even`.

    Raises:
        RedoubtError: the model has no peer layers, or not these.
    """
    peer = peer_graph.peer_network(network)
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for layer in parameters.layers:
        options = peer_graph.Parameters(layer=layer, draw=parameters.draw)
        for start, inputs, labels in batches:
            if start not in seen:
                seen[start] = gradient_norms(network, inputs, labels), passing_by(network, peer, inputs, labels)
            with torch.no_grad():
                graph = peer_graph.links(network, peer, options, inputs)
                apart = spread(graph.candidates.features[graph.found]).double().mean(1)
                uneven = distance_from_even(graph.attention).double().mean(1)
            exact, through = seen[start]
            facts: dict[str, Any] = {"layer": float(layer), "gradient": exact, "gradient_straight_through": through}
            facts |= {"spread": apart, "attention_distance": uneven}
            yield interface.Crafted(start, inputs, facts)
