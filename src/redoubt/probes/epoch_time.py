"""Seconds of an epoch's training steps, and how many times as long they take as those of normal training.

`seconds` are those of batches, losses and updates; evaluation and other probes are left out. With `repetitions`, steps
of this training and of normal training (the cross-entropy of the same images, by the same network, optimizer and batch
size) are taken in turn, in one process, on copies; `ratio` is the median quotient of times taken side by side. Epochs
of both have the same number of steps, so it is also the ratio of their epochs.

Source: Perceptual Prior (ICLR 2020 submission), tables 1, 2 and 9, last column. Deviation: ratios in place of seconds,
which are those of a machine.

They differ from run to run, and so does the trace.parquet of a model that asks for them; its other files do not.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from redoubt.errors import RedoubtError
from redoubt.probes._turns import in_turn, ratio
from redoubt.probes.interface import View
from redoubt.records import Count, Strict

REPRODUCIBLE = False


class Parameters(Strict):
    """How often steps are compared with those of normal training."""

    repetitions: Annotated[int, Field(ge=0)] = Field(
        0, description="measurements of each, after one that does not count; none when 0"
    )
    steps: Count = Field(10, description="training steps of a measurement")


def measure(view: View, parameters: Parameters) -> dict[str, float]:
    """Return `seconds` of wall-clock time since the epoch began; nothing before the first step.

    Every epoch, that is the time of a whole epoch; every k steps, it grows within each epoch. A resumed epoch counts
    the time that it had taken when its state was saved. With repetitions also, before the first step too, `ratio` and
    the medians `step_seconds` and `normal_step_seconds`.

    Cost: 2 (1 + repetitions) x steps training steps, half of them normal.

    Raises:
        RedoubtError: repetitions are asked for and there is no training.
    """
    found = {"seconds": view.seconds} if view.step else {}
    if parameters.repetitions:
        if view.steps is None:
            raise RedoubtError("epoch-time: repetitions are of training steps, and there is no training")
        works = {name: _repeated(step, parameters.steps) for name, step in view.steps().items()}
        times = in_turn(works, parameters.repetitions, next(view.network.parameters()).device)
        found["ratio"] = ratio(times["own"], times["normal"])
        found["step_seconds"] = statistics.median(times["own"]) / parameters.steps
        found["normal_step_seconds"] = statistics.median(times["normal"]) / parameters.steps
    return found


def _repeated(step: Callable[[], None], count: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(count):
            step()

    return work
