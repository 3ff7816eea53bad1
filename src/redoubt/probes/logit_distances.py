"""How far apart logits are in a training batch: of noisy copies, of images of one class, and of different classes.

`d_per` is the mean l2 distance between the logits of an image and of its copy with noise, `d_intra` that between two
images of the same class, and `d_inter` that between two images of different classes, over all pairs of the batch.

Source: Perceptual Prior (ICLR 2020 submission), section 3.1 and figure 1, with the noise of its equation 2. The text
leaves open which noise; its defense takes an xi of 0.3 on MNIST, and clipping is open there too. Images are those of
the last step's batch, clean also where a defense trains on others; logits are those of eval mode.
"""

from __future__ import annotations

from pydantic import Field

from redoubt.lazily import lazy, torch
from redoubt.probes.interface import View
from redoubt.records import Positive, Strict

layers = lazy("redoubt.preprocessing._layers")


class Parameters(Strict):
    """The noise of the copies."""

    xi: Positive = Field(0.3, description="size of the noise in every pixel, in units of images in [0, 1]")
    clip: bool = Field(True, description="clip noisy copies to [0, 1]")


def measure(view: View, parameters: Parameters) -> dict[str, float]:
    """Return d_per, d_intra and d_inter; nothing before the first step, and no mean of pairs that do not exist.

    Cost: two forward passes of a training batch, and the distances between all of its logits.
    """
    if view.batch is None:
        return {}
    inputs, labels = view.batch
    with torch.no_grad():
        logits = view.network(inputs).double()
        copies = view.network(_noisy(inputs, view.preprocessing, parameters)).double()
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    apart = (logits[first] - logits[second]).norm(dim=1)
    same = labels[first] == labels[second]
    found = {"d_per": (logits - copies).norm(dim=1), "d_intra": apart[same], "d_inter": apart[~same]}
    return {name: float(values.mean()) for name, values in found.items() if len(values)}


def _noisy(inputs: torch.Tensor, preprocessing: torch.nn.Module | None, parameters: Parameters) -> torch.Tensor:
    """Return the inputs of copies (B, C, H, W) whose images have noise of size xi with random signs."""
    pixels = layers.Pixels(tuple(inputs.shape[1:])).to(inputs.device)
    if preprocessing is not None:
        pixels.learn(preprocessing)
    images = pixels.images(inputs).clamp(0.0, 1.0)
    noisy = images + parameters.xi * torch.randn_like(images).sign()
    return pixels.inputs(noisy.clamp(0.0, 1.0) if parameters.clip else noisy)
