"""The one door to torchvision.

Published weights lie where torch.hub keeps them; the step that downloads ImageNet fetches them, and no other.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torchvision.models import (
    AlexNet_Weights,
    ResNet18_Weights,
    alexnet,
    resnet18,
)

from redoubt.errors import RedoubtError
from redoubt.files import file_digest

__all__ = ["PUBLISHED", "alexnet", "fetch", "published", "rescaled", "resnet18"]

PUBLISHED = {"AlexNet": AlexNet_Weights.IMAGENET1K_V1.url, "ResNet-18": ResNet18_Weights.IMAGENET1K_V1.url}
CHANNEL_STD = (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1], as torchvision's weights expect them


class Rescale(torch.nn.Module):
    """Bring mean-subtracted inputs on the 0-255 scale to the unit variance that published weights expect."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", 1.0 / (255.0 * torch.tensor(CHANNEL_STD).view(3, 1, 1)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs (N, 3, H, W) divided by 255 times the channels' standard deviation."""
        return inputs * self.scale


def rescaled(network: torch.nn.Module) -> torch.nn.Module:
    """Return `network` behind a `Rescale`."""
    return torch.nn.Sequential(Rescale(), network)


def _kept(name: str) -> tuple[Path, str]:
    """Return where the published weights of a network lie, and how the SHA-256 of that file begins."""
    file = PUBLISHED[name].rsplit("/", 1)[1]
    named = re.search(r"-([0-9a-f]{8,})\.pth$", file)
    assert named is not None, file
    return Path(torch.hub.get_dir()) / "checkpoints" / file, named[1]


def _whole(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path).startswith(digest)


def fetch(name: str) -> dict[str, Any]:
    """Fetch the published weights of a network unless they are here, and return where they came from.

    Raises:
        RedoubtError: they cannot be fetched, or are not what their name says.
    """
    path, digest = _kept(name)
    if not _whole(path, digest):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(PUBLISHED[name], str(path), digest, progress=False)
        except (OSError, RuntimeError) as error:
            raise RedoubtError(
                f"{name}: {PUBLISHED[name]}: its published weights could not be fetched ({error}); put them at {path}"
            ) from None
    return {"path": path.name, "from": PUBLISHED[name], "sha256": file_digest(path)}


def published(name: str, classes: int) -> dict[str, torch.Tensor]:
    """Return the published weights of a network for ImageNet.

    Raises:
        RedoubtError: they are not here, or damaged, or the data have other than 1000 classes.
    """
    if classes != 1000:
        raise RedoubtError(f"{name}: the published weights have 1000 classes, the data {classes}; use weights: random")
    path, digest = _kept(name)
    if not _whole(path, digest):
        raise RedoubtError(
            f"{path}: {'damaged' if path.is_file() else 'not there'}, the published weights of {name}; "
            "`python -m redoubt.steps.download --dataset imagenet` fetches them"
        )
    return torch.load(path, map_location="cpu", weights_only=True)
