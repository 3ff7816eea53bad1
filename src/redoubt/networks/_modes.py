"""Context manager that temporarily puts a network into eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redoubt.lazily import torch


@contextmanager
def eval_mode(network: torch.nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and every module back into its previous mode at the end."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
