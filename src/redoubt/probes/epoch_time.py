"""Seconds of an epoch's training steps: batches, losses and updates; evaluation and other probes are left out.

They differ from run to run, and so does the trace.parquet of a model that asks for them; its other files do not.
"""

from __future__ import annotations

from redoubt.probes.interface import View
from redoubt.records import Strict

REPRODUCIBLE = False


class Parameters(Strict):
    """It has none."""


def measure(view: View, parameters: Parameters) -> dict[str, float]:
    """Return `seconds` of wall-clock time since the epoch began; nothing before the first step.

    Every epoch, that is the time of a whole epoch; every k steps, it grows within each epoch. A resumed epoch counts
    the time that it had taken when its state was saved.
    """
    return {"seconds": view.seconds} if view.step else {}
