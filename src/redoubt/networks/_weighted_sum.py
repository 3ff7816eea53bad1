"""The weighted sum of a few rows for each of many, and its gradients in one pass where numba is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from redoubt.lazily import lazy
from redoubt.networks._compiled import available, shared

if TYPE_CHECKING:
    from redoubt.networks import _sum_kernels as kernels
else:
    kernels = lazy("redoubt.networks._sum_kernels")


class WeightedSum(torch.autograd.Function):
    """Sum of K rows of `features` (P, d), picked by `indices` (Q, K) and weighted by `weights` (Q, K)."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(features, indices, weights)
        return torch.nn.functional.embedding_bag(indices, features, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, None, torch.Tensor | None]:
        features, indices, weights = ctx.saved_tensors
        fused = gradient.device.type == "cpu" and {gradient.dtype, features.dtype, weights.dtype} == {torch.float32}
        if fused and not torch.is_grad_enabled() and available():  # gradients of gradients go through torch
            return _fused(features, indices, weights, gradient, ctx.needs_input_grad)
        for_features = for_weights = None
        if ctx.needs_input_grad[0]:
            parts = weights[:, :, None] * gradient[:, None]
            for_features = torch.zeros_like(features).index_add(0, indices.flatten(), parts.flatten(0, 1))
        if ctx.needs_input_grad[2]:
            picked = torch.nn.functional.embedding(indices, features)
            for_weights = (picked @ gradient[:, :, None])[:, :, 0]
        return for_features, None, for_weights


def _fused(
    features: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor,
    gradient: torch.Tensor,
    needed: tuple[bool, ...],
) -> tuple[torch.Tensor | None, None, torch.Tensor | None]:
    """Return the gradients; each sum is taken in one order, whatever the number of threads."""
    rows, places, shares, slopes = (
        part.detach().contiguous().numpy() for part in (features, indices, weights, gradient)
    )
    for_features = for_weights = None
    if needed[0]:
        for_features = torch.zeros_like(features, memory_format=torch.contiguous_format)
        out = for_features.numpy()
        shared(lambda first, last: kernels.to_features(places, shares, slopes, out, first, last), len(rows))
    if needed[2]:
        for_weights = torch.empty_like(weights, memory_format=torch.contiguous_format)
        parts = for_weights.numpy()
        shared(lambda first, last: kernels.to_weights(rows, places, slopes, parts, first, last), len(places))
    return for_features, None, for_weights
