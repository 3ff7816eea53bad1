"""The one door to torchvision.

The registry's torchvision is built for CUDA; beside a CPU build of torch its compiled operators do not load, and the
import fails because their Python wrappers look for `torchvision::nms` and `torchvision::qnms`. None is used here, so
they are declared before the import when, and only when, they are missing.
"""

import torch

_library = torch.library.Library("torchvision", "FRAGMENT")
for _name, _signature in (
    ("nms", "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ("qnms", "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
):
    if not hasattr(torch.ops.torchvision, _name):
        _library.define(_signature)

from torchvision.models import (  # noqa: E402
    AlexNet_Weights,
    ResNet18_Weights,
    alexnet,
    resnet18,
)

__all__ = ["AlexNet_Weights", "ResNet18_Weights", "alexnet", "rescaled", "resnet18"]

CHANNEL_STD = (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1], as torchvision's weights expect them


class Rescale(torch.nn.Module):
    """Bring mean-subtracted inputs on the 0-255 scale to the unit variance that published weights expect."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", 1.0 / (255.0 * torch.tensor(CHANNEL_STD).view(3, 1, 1)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs (N, 3, H, W) divided by 255 times the channels' standard deviation."""
        return inputs * self.scale


def rescaled(network: torch.nn.Module) -> torch.nn.Module:
    """Return `network` behind a `Rescale`."""
    return torch.nn.Sequential(Rescale(), network)
