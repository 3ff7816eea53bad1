"""What a probe measures, and what it is given.

A probe of a training has `Parameters` and

    measure(view, parameters) -> dict[str, float]

which returns values by the name of the measure; a model's entry asks for it in `training.probes`, and its values are
rows of trace.parquet. A probe of a finished model has `Parameters`, `NEEDS`, `THREAT`, `COST`, `ENGINES` and `run`, as
an attack has; a study asks for it in `attacks` by `probe:` in place of `attack:`. Neither changes the network.

A probe whose values differ from run to run, as times do, has `REPRODUCIBLE = False`; the rest of the model's files stay
equal byte for byte, its trace.parquet does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redoubt.lazily import torch


@dataclass(frozen=True)
class View:
    """A moment of a training, as a probe sees it.

    Attributes:
        network: inputs (B, ...) to logits (B, classes), in eval mode.
        inputs: yields the tracked test images as inputs (B, ...) of the network, with labels (B,).
        step: steps taken so far.
        epoch: the same in epochs.
        seconds: wall-clock time of this epoch's steps so far, evaluation left out; 0 before the first step.
        batch: inputs (B, ...) and labels (B,) of the last step, augmented but not changed by the defense; None before
            the first step.
        preprocessing: maps images (N, C, H, W) in [0, 1] to inputs of the network; None where it is not known.
        steps: makes copies of the training as it is now and returns two functions, `own` and `normal`: a step of this
            training, and one by the cross-entropy of the same images. None where there is no training.
    """

    network: torch.nn.Module
    inputs: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]
    step: int
    epoch: float
    seconds: float
    batch: tuple[torch.Tensor, torch.Tensor] | None = None
    preprocessing: torch.nn.Module | None = None
    steps: Callable[[], dict[str, Callable[[], None]]] | None = None
