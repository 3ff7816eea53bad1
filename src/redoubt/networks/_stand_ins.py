"""Stand-ins: what gradients follow in place of a layer whose own gradient says little; outputs stay those of the layer.

A layer that can be stood in for has an attribute `stand_in`, None, or a function that it calls in its forward pass as
`stand_in(layer, inputs, ...)`, and whose output, shaped like its own, it uses on the way back alone (`standing`).

Source: Athalye, Carlini and Wagner (ICML 2018), section 4.1, the backward pass differentiable approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch

from redoubt.networks._nearest import nearest
from redoubt.networks._weighted_sum import WeightedSum

StandIn = Callable[..., torch.Tensor]
ROWS = 4096  # queries whose similarities are taken at a time


@runtime_checkable
class Replaceable(Protocol):
    """A layer that another function can stand in for on the way back."""

    stand_in: StandIn | None


@contextmanager
def replaced(network: torch.nn.Module, stand_in: StandIn) -> Iterator[None]:
    """Put a stand-in for all layers of a network that have one, and take it away at the end."""
    layers = [layer for layer in network.modules() if isinstance(layer, Replaceable)]
    try:
        for layer in layers:
            layer.stand_in = stand_in
        yield
    finally:
        for layer in layers:
            layer.stand_in = None


def standing(output: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return `output` with the gradient of `other`, shaped alike."""
    return output.detach() + (other - other.detach())


def identity(layer: torch.nn.Module, inputs: torch.Tensor, *_: Any) -> torch.Tensor:
    """Return the inputs: straight-through gradients."""
    return inputs


def near(layer: Any, maps: torch.Tensor, draw: Any, count: int, temperature: float | None) -> torch.Tensor:
    """Return sums (B, d, H, W) over the `count` nearest peer pixels of one draw in place of a peer layer's K.

    They are weighted by the layer's attention, times exp(cosine / temperature) unless that is None: then the weights
    follow the pixel across neighbourhoods, which attention over K neighbours that are alike cannot.

    Args:
        layer: a `PeerRegularization`.
        maps: (B, d, H, W) its inputs.
        draw: a `PeerFeatures`.
        count: neighbours; all there are if they are fewer.
        temperature: in units of a cosine.

    Cost: B*H*W x `count` cosines and weights are kept.
    """
    batch, channels, height, width = maps.shape
    queries = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    directions = torch.nn.functional.normalize(queries, dim=1)
    count = min(count, len(draw.features))
    found = nearest(directions.detach(), draw.directions, count, index=draw.index)
    weights = layer.weights(queries, draw.features, found)
    if temperature is not None:
        cosines = _Cosines.apply(directions, draw.directions, found)
        weights = (weights.clamp_min(torch.finfo(weights.dtype).tiny).log() + cosines / temperature).softmax(1)
    rows = WeightedSum.apply(draw.features, found, weights)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


class _Cosines(torch.autograd.Function):
    """Inner products (Q, K) of rows (Q, d) with those candidates (P, d), constants, that `found` (Q, K) names."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, candidates: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(candidates, found)
        parts = zip(rows.split(ROWS), found.split(ROWS), strict=True)
        return torch.cat([(candidates[places] @ part[:, :, None])[:, :, 0] for part, places in parts])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        candidates, found = ctx.saved_tensors
        rows = torch.nn.functional.embedding_bag(found, candidates, per_sample_weights=gradient, mode="sum")
        return rows, None, None
