"""How decided the network is on the tracked test images: margins and ranges of its logits."""

from __future__ import annotations

from redoubt.lazily import torch
from redoubt.probes.interface import View
from redoubt.records import Strict


class Parameters(Strict):
    """It has none."""


def measure(view: View, parameters: Parameters) -> dict[str, float]:
    """Return means over the images of differences of logits.

    `test_margin` is the label's logit less the highest other, negative where an image is misclassified;
    `test_logit_range` the highest logit less the lowest.

    Cost: one forward pass of every tracked test image.
    """
    margins, ranges = [], []
    for inputs, labels in view.inputs():
        with torch.no_grad():
            logits = view.network(inputs).double().cpu()
        place = labels.cpu()[:, None]
        others = logits.scatter(1, place, -torch.inf).amax(1)
        margins.append(logits.gather(1, place)[:, 0] - others)
        ranges.append(logits.amax(1) - logits.amin(1))
    return {"test_margin": float(torch.cat(margins).mean()), "test_logit_range": float(torch.cat(ranges).mean())}
