"""Contrast normalisation and whitening: the reading of DeepDefense's CIFAR-10 space that its norms suggest.

Source: the paper trains its CIFAR-10 references with the MatConvNet examples. Those subtract the mean image, bring
every image to zero mean and the average standard deviation (with a floor), and whiten the pixels (ZCA, with a floor
under the standard deviations of the components and the average energy kept). The paper's ratio of rho'_2 to rho_2
gives a mean ||z||_2 near 1820, which plain mean subtraction (about 3390) does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from redoubt.lazily import lazy, torch
from redoubt.preprocessing.mean_image import mean_image
from redoubt.records import Positive, Strict

if TYPE_CHECKING:
    from redoubt.preprocessing import _layers as layers
else:
    layers = lazy("redoubt.preprocessing._layers")


class Parameters(Strict):
    """The two floors of the recipe, on the 0-255 scale."""

    contrast_floor: Positive = Field(40.0, description="least standard deviation that an image is divided by")
    component_floor: Positive = Field(10.0, description="least standard deviation that a component is divided by")


def build(parameters: Parameters, shape: tuple[int, int, int]) -> torch.nn.Module:
    """Return the layer; it maps images (N, *shape) in [0, 1] to whitened inputs (N, *shape)."""
    return layers.Whitened(shape, parameters.contrast_floor)


def fit(parameters: Parameters, layer: layers.Whitened, batches: Callable[[], Iterable[torch.Tensor]]) -> None:
    """Set mean image, average contrast and whitening matrix from three passes over the training images."""
    layer.mean.copy_(mean_image(batches()))
    contrasts = torch.cat([layer.deviations(images)[1] for images in batches()])
    layer.contrast.copy_(contrasts.double().mean())
    covariance, count = torch.zeros((), dtype=torch.float64), 0
    for images in batches():
        flat = layer.normalised(images).double()
        covariance = covariance + flat.T @ flat
        count += len(flat)
    variances, components = torch.linalg.eigh(covariance / count)
    gains = variances.mean().sqrt() / variances.clamp_min(0.0).sqrt().clamp_min(parameters.component_floor)
    layer.whitening.copy_((components * gains) @ components.T)
