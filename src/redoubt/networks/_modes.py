"""Eval mode for a while."""

from __future__ import annotations

from contextlib import contextmanager

from redoubt.lazily import torch


@contextmanager
def eval_mode(network: torch.nn.Module):
    """Put a network into eval mode for a while, then every module back into its own mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
