"""Pieces of work that are timed in turn, so that what else runs on the machine slows all of them down."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from redoubt.lazily import torch


def in_turn(
    works: Mapping[str, Callable[[], object]],
    repetitions: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of several pieces of work, done in turn, in opposite order every other time.

    Each is done once before. On a GPU the clock waits until it is done.
    """

    def seconds(work: Callable[[], object]) -> float:
        start = _now(device, clock)
        work()
        return _now(device, clock) - start

    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for repetition in range(repetitions):
        for name in list(works)[:: -1 if repetition % 2 else 1]:
            times[name].append(seconds(works[name]))
    return times


def _now(device: torch.device, clock: Callable[[], float]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()


def ratio(times: list[float], base: list[float]) -> float:
    """Return the median of the ratios of measurements that were taken side by side."""
    return statistics.median(one / other for one, other in zip(times, base, strict=True))
