"""A model: preprocessing and network behind one callable on images in [0, 1]."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch

from redoubt import registry
from redoubt.study.entries.base import Method
from redoubt.study.entries.model import ModelEntry

Module = TypeVar("Module", bound=torch.nn.Module)


class Classifier(torch.nn.Module):
    """Images (N, C, H, W) in [0, 1] to logits (N, classes), by way of preprocessed inputs of the same shape."""

    def __init__(self, preprocessing: torch.nn.Module, network: torch.nn.Module) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes)."""
        return self.network(self.preprocessing(images))


def build(
    entry: ModelEntry | dict[str, Any], shape: tuple[int, int, int], classes: int, *, published: bool = False
) -> Classifier:
    """Return the untrained model of a config entry, with weights drawn from torch's global generator.

    Its network is that of the entry, as the entry's defense changes it if it does; its preprocessing is not fitted.

    Args:
        entry: the model's entry, as the catalog gives it.
        shape: (C, H, W) of its images.
        classes: number of classes.
        published: begin with published weights where the entry asks for them; pass False when other weights are loaded.
    """
    entry = ModelEntry.parse(entry, "the model's entry")
    named = entry.network
    if "weights" in named.parameters and not published:
        named = Method(name=named.name, parameters={**named.parameters, "weights": "random"})
    method, parameters = registry.chosen("networks", named)
    network = method.build(parameters, shape, classes)
    if entry.defense.changes:
        method, parameters = registry.chosen("defenses", entry.defense)
        network = method.change(parameters, network, shape, classes)
    return Classifier(build_preprocessing(entry.preprocessing, shape), network)


def build_preprocessing(named: Method, shape: tuple[int, int, int]) -> torch.nn.Module:
    """Return the preprocessing layer of an entry, not fitted."""
    method, parameters = registry.chosen("preprocessing", named)
    return method.build(parameters, shape)


def moved(network: Module, where: torch.device, form: torch.memory_format) -> Module:
    """Return `network`, moved to a device and a memory format."""
    return network.to(where, memory_format=form)  # type: ignore[call-overload]  # torch's types do not know the format


def memory_format(network: torch.nn.Module, shape: tuple[int, int, int]) -> torch.memory_format:
    """Return the memory format in which a network that is on the CPU runs fastest.

    That is channels-last, unless the network cannot run in it: `view` fails on feature maps of that format.
    """
    changed = moved(copy.deepcopy(network).eval(), torch.device("cpu"), torch.channels_last)
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            changed(torch.zeros(2, *shape).to(memory_format=torch.channels_last))
    except RuntimeError as error:
        if "view" not in str(error):
            raise
        return torch.contiguous_format
    return torch.channels_last
