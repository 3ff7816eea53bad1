"""Networks in eval mode for a while, and the shapes that they return there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def output_shapes(
    network: torch.nn.Module, names: Iterable[str], shape: tuple[int, int, int]
) -> dict[str, tuple[int, ...]]:
    """Return by name (as in `named_modules`) the shape of what modules return of one input (1, *shape), in eval mode.

    They come in the order in which the modules are run.
    """
    known, found = dict(network.named_modules()), dict[str, tuple[int, ...]]()
    handles = [
        known[name].register_forward_hook(lambda _, __, output, name=name: found.update({name: tuple(output.shape)}))
        for name in names
    ]
    try:
        with torch.no_grad(), eval_mode(network):
            network(torch.zeros(1, *shape))
    finally:
        for handle in handles:
            handle.remove()
    return found
