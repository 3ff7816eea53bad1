"""ResNet-18 from torchvision, with its published ImageNet weights on request.

Source: DeepDefense, supplement 2, which downloads a pretrained model without saying which; here it is torchvision's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from redoubt.lazily import lazy, torch
from redoubt.records import Strict

if TYPE_CHECKING:
    from redoubt.networks import _vision as vision
else:
    vision = lazy("redoubt.networks._vision")


class Parameters(Strict):
    """Where the initial weights come from."""

    weights: Literal["random", "imagenet"] = "random"


def build(parameters: Parameters, shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """Return the network; it maps inputs (N, 3, H, W), H and W at least 64, to logits (N, classes).

    Raises:
        RedoubtError: published weights are asked for and are not here, or do not fit the number of classes.
    """
    network = vision.resnet18(weights=None, num_classes=classes)
    if parameters.weights == "imagenet":
        network.load_state_dict(vision.published("ResNet-18", classes))
    return vision.rescaled(network)
