"""AlexNet from torchvision, with its published ImageNet weights on request.

Source: DeepDefense, section 4.3.
Deviation: the paper takes the Caffe model zoo's weights; torchvision's are of a close variant without groups.
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
    network = vision.alexnet(weights=None, num_classes=classes)
    if parameters.weights == "imagenet":
        network.load_state_dict(vision.published("AlexNet", classes))
    return vision.rescaled(network)
