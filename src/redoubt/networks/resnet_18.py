"""ResNet-18 from torchvision, with its published ImageNet weights on request.

Source: DeepDefense, supplement 2, which downloads a pretrained model without saying which; here it is torchvision's.
"""

from __future__ import annotations

from typing import Literal

from redoubt.errors import RedoubtError
from redoubt.lazily import lazy
from redoubt.schema import Strict

torch = lazy("torch")
vision = lazy("redoubt.networks.vision")


class Parameters(Strict):
    """Where the initial weights come from."""

    weights: Literal["random", "imagenet"] = "random"


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """Return the network; it maps inputs (N, 3, H, W), H and W at least 64, to logits (N, classes).

    Raises:
        RedoubtError: published weights are asked for and cannot be fetched, or do not fit the number of classes.
    """
    if parameters.weights == "random":
        return vision.rescaled(vision.resnet18(weights=None, num_classes=classes))
    if classes != 1000:
        raise RedoubtError(
            f"ResNet-18: the published weights have 1000 classes, the data {classes}; use weights: random"
        )
    try:
        return vision.rescaled(vision.resnet18(weights=vision.ResNet18_Weights.IMAGENET1K_V1))
    except OSError as error:
        raise RedoubtError(f"ResNet-18: its published weights could not be fetched ({error})") from None
