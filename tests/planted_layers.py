"""Planted defenses that are layers: one for each wrapper by which an attack follows a defense."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from redoubt.data import digits
from redoubt.data.sources import SOURCES
from redoubt.networks._peers import PeerFeatures, PeerRegularization


@cache
def training_digits(count: int) -> torch.Tensor:
    """Return the first training digits (count, 784) in [0, 1]."""
    return torch.from_numpy(digits.build(SOURCES["digits"])["train"][0][:count]).flatten(1).float() / 255


class Peered(torch.nn.Module):
    """Pixels replaced by the nearest of five grey levels, by a peer layer whose K is 1: its own gradient is zero.

    Args:
        model: images (N, 1, H, W) to logits.
        attention: of the layer; `printed` does not depend on the pixel, so that attention over many has no gradient.
        coded: a pixel of grey v has the features (v, 1 - v) and a level g times these, times (0.1 + 0.9 g), of which
            the sum is read. Features that pass straight through have the same sum for every v, so no gradient.
    """

    def __init__(self, model: Callable, attention: str, coded: bool = False) -> None:
        super().__init__()
        self.model, self.coded = model, coded
        self.layer = PeerRegularization(2, 1, attention)
        self.layer.score.weight.data = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
        self.layer.score.bias.data = torch.tensor([-1.0])  # attention's slope is another for dark and bright levels
        grey = torch.linspace(0.0, 1.0, 5)[:, None, None, None]
        levels = torch.cat([grey, 1.0 - grey], 1) * (0.1 + 0.9 * grey if coded else 1.0)
        self.layer.draws = [PeerFeatures.of(levels, 1)]
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.layer(torch.cat([images, 1.0 - images], 1))
        return self.model((found.sum(1, keepdim=True) - 0.1) / 0.9 if self.coded else found[:, :1])


class Slanted(torch.nn.Module):
    """The model's logits, with a large false gradient that two fixed peers decide."""

    peers: torch.Tensor

    def __init__(self, model: Callable) -> None:
        super().__init__()
        self.model = model
        self.pool = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        self.register_buffer("peers", self.pool[:2].clone())
        self.eval()

    def set_peers(self, inputs: torch.Tensor) -> None:
        self.peers.copy_(inputs[torch.randperm(len(inputs))[:2]])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.model(images)
        slope = 200.0 * (self.peers[0] - self.peers[1])
        nothing = (slope * (images - images.detach())).flatten(1).sum(1, keepdim=True)
        return logits + nothing * torch.linspace(-1.0, 1.0, logits.shape[1])


class Switched(torch.nn.Module):
    """A random model that draws until its switch `still` is on."""

    def __init__(self, model: Callable, noisy: Callable) -> None:
        super().__init__()
        self.model, self.noisy, self.still = model, noisy(model), False
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images) if self.still else self.noisy(images)


class Recalled(torch.nn.Module):
    """Images replaced by a mean of 200 training digits, weighted by their nearness, as an autoencoder's code is."""

    def __init__(self, model: Callable) -> None:
        super().__init__()
        self.model, self.digits = model, training_digits(200)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weights = (-torch.cdist(images.flatten(1), self.digits).square() / 5.0).softmax(1)
        return self.model((weights @ self.digits).view_as(images))


class Watched(torch.nn.Module):
    """The model, and a detector of images farther from the plane of the first 20 components than training digits."""

    def __init__(self, model: Callable) -> None:
        super().__init__()
        self.model, known = model, training_digits(1000)
        self.mean = known.mean(0)
        self.plane = torch.linalg.svd(known - self.mean, full_matrices=False)[2][:20]
        self.threshold = self._distance(known).max()
        self.eval()

    def _distance(self, rows: torch.Tensor) -> torch.Tensor:
        moved = rows - self.mean
        return (moved - moved @ self.plane.T @ self.plane).square().mean(1).sqrt()

    def reports(self, images: torch.Tensor) -> torch.Tensor:
        """Return the distance over its threshold (N, 1); an image of 1 and more is reported."""
        return self._distance(images.flatten(1))[:, None] / self.threshold

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)
