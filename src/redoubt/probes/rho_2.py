"""The mean relative size of the smallest perturbation that DeepFool finds: ||perturbation||_2 / ||input||_2.

Source: DeepDefense, equation 7, over all tracked test images and in the space of the network's inputs; its figures 2, 4
and 5 show it.
"""

from __future__ import annotations

from redoubt.attacks import _finite as finite
from redoubt.attacks import deepfool
from redoubt.lazily import torch
from redoubt.probes.interface import View


class Parameters(deepfool.Parameters):
    """The DeepFool that is measured with."""


def measure(view: View, parameters: Parameters) -> dict[str, float]:
    """Return `test_rho_2`.

    Cost: DeepFool on every tracked test image.

    Raises:
        RedoubtError: gradients are not finite, nor beside the images; see `redoubt.attacks`.
    """
    ratios = []
    for inputs, _ in view.inputs():
        perturbation = deepfool.perturb(finite.Finite(view.network, None), inputs, parameters)[0]
        ratios.append((perturbation.flatten(1).norm(dim=1) / inputs.flatten(1).norm(dim=1)).double().cpu())
    return {"test_rho_2": float(torch.cat(ratios).mean())}
