"""The size of the noise that a network adds: means over all elements of what is learned of it.

That is alpha of PNI, in standard deviations of a layer's weight, theta of Learn2Perturb, in units of its features, and
sigma of Adv-BNN, in units of its weights.

Source: Learn2Perturb (Jeddi et al., CVPR 2020), supplement, figure 1, "mean over noise perturbation parameters".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redoubt.lazily import lazy, torch
from redoubt.probes.interface import View
from redoubt.records import Strict

if TYPE_CHECKING:
    from redoubt.networks import _noise as noise
else:
    noise = lazy("redoubt.networks._noise")


class Parameters(Strict):
    """It has none."""


def measure(view: View, parameters: Parameters) -> dict[str, float]:
    """Return `noise_mean`, and `noise_mean_size`, that of absolute values, which differs where alpha is negative.

    Nothing of a network without noise.
    """
    parts = [part.sizes().detach().double().flatten() for part in noise.noises(view.network)]
    if not parts:
        return {}
    sizes = torch.cat(parts)
    return {"noise_mean": float(sizes.mean()), "noise_mean_size": float(sizes.abs().mean())}
