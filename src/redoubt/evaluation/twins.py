"""Deterministic twins of random models: noise that the image decides, or none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch

from redoubt.networks._random import without_noise
from redoubt.study.entries.attack import Noise


class WithoutNoise(torch.nn.Module):
    """A model with its noise switched off, see `redoubt.networks._random`; outside of its calls the model draws on.

    Args:
        network: a module that holds layers with a switch `still`.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.training = network, network.training

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (B, classes).

        Raises:
            RedoubtError: no layer has such a switch.
        """
        with without_noise(self.network):
            return self.network(inputs)


class SeededByImage(torch.nn.Module):
    """A random model whose draws follow from the image, so that each image has one answer; it is asked alone.

    The seed is a digest of the image's values. Torch's generators are afterwards where they were.

    Cost: a call for each image.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.training = network, network.training

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (B, classes)."""
        devices = [inputs.device] if inputs.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            return torch.cat([self._one(image) for image in inputs.split(1)])

    def _one(self, image: torch.Tensor) -> torch.Tensor:
        values = image.detach().cpu().contiguous().numpy().tobytes()
        torch.manual_seed(int.from_bytes(hashlib.sha256(values).digest()[:8], "little") >> 1)
        return self.network(image)


TWINS: dict[Noise, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "drawn": lambda network: network,
    "by-image": SeededByImage,
    "none": WithoutNoise,
}
