"""Many changed copies of images through a network, in one buffer: what attacks by queries have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from redoubt.attacks import _losses as losses
from redoubt.lazily import torch

VALUES = {"cpu": 2**17, "cuda": 2**22}
"""Input elements a forward pass: what stays in a CPU's cache, and what keeps a GPU busy."""


def portions(images: int, each: int, limit: int, apart: bool) -> Iterator[tuple[int, int]]:
    """Yield slices of `images * each` queries, at most `limit` long; none spans two images where `apart`.

    Kernels round by the size of a batch. On a CPU an image's queries therefore keep to themselves, so that not a bit
    of the result depends on the other images.
    """
    span = each if apart else images * each
    for start in range(0, images * each, span):
        for low in range(start, start + span, limit):
            yield low, min(low + limit, start + span)


def query(
    network: Callable, images: torch.Tensor, labels: torch.Tensor, each: int, change: Callable, loss: losses.Name
) -> tuple[torch.Tensor, torch.Tensor]:
    """Query `each` changed copies of every image, through one buffer that is written again and again.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        images: (A, ...).
        labels: (A,) true classes.
        each: copies of an image, P.
        change: (copies (B, ...), low, high) changes, in place, the copies that are number low to high - 1 of A * P.
        loss: what is returned of the logits at the true class.

    Returns:
        loss (A, P); whether the copy is misclassified (A, P).

    Cost: P forward passes an image.
    """
    apart = images.device.type == "cpu"
    limit = max(1, VALUES["cpu" if apart else "cuda"] // images[0].numel())
    slices = list(portions(len(images), each, limit, apart))
    buffer = images.new_empty(max(high - low for low, high in slices), *images.shape[1:])
    owners = torch.arange(len(images), device=images.device).repeat_interleave(each)
    values, wrong = [], []
    for low, high in slices:
        copies, own = buffer[: high - low], owners[low:high]
        torch.index_select(images, 0, own, out=copies)
        change(copies, low, high)
        with torch.no_grad():
            look = losses.Goal(loss).look(network, copies, labels[own], judged=False)
        values.append(look.height)
        wrong.append(look.reached)
    return torch.cat(values).view(-1, each), torch.cat(wrong).view(-1, each)
