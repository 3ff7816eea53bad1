"""What probes measure during a training: when they are asked, and the rows of trace.parquet."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from redoubt import registry
from redoubt.device import seed_everything
from redoubt.errors import RedoubtError
from redoubt.networks._modes import eval_mode
from redoubt.probes.interface import View
from redoubt.study.entries.base import Method
from redoubt.study.entries.model import Probe


class Trace:
    """Probes that watch a training, and what they have measured: one row for each measure at each time.

    Args:
        probes: which, and how often.
        names: model's id and seed; draws of a probe are seeded by them, its name and the step.
        network: the network being trained; probes see it in eval mode.
        inputs: function that yields the tracked test images as inputs (B, ...) of the network, with labels (B,).
        preprocessing: maps images in [0, 1] to inputs of the network.

    Raises:
        RedoubtError: a probe is unknown, is none of a training, or its parameters are wrong.
    """

    def __init__(
        self,
        probes: Sequence[Probe] = (),
        names: tuple[Any, ...] = (),
        network: torch.nn.Module | None = None,
        inputs: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]] = lambda: iter(()),
        preprocessing: torch.nn.Module | None = None,
    ) -> None:
        self.names, self.network, self.inputs, self.preprocessing = names, network, inputs, preprocessing
        named = [Method(name=probe.probe, parameters=probe.parameters) for probe in probes]
        self.probes = [(probe, *registry.chosen("probes", part)) for probe, part in zip(probes, named, strict=True)]
        for probe, method, _ in self.probes:
            if not hasattr(method, "measure"):
                raise RedoubtError(f"training.probes: {probe.probe} is for finished models; ask for it in attacks")
        self.keys: list[list[str]] = []  # probe and measure
        self.rows: list[tuple[float, float, float, float]] = []  # epoch, step, place of the key, value

    def measure(
        self,
        step: int,
        epoch: float,
        seconds: float,
        boundary: bool,
        batch: tuple[torch.Tensor, torch.Tensor] | None = None,
        steps: Callable[[], dict[str, Callable[[], None]]] | None = None,
    ) -> None:
        """Ask every probe whose turn it is.

        Args:
            step: steps taken so far.
            epoch: the same in epochs.
            seconds: of all training steps of this epoch so far.
            boundary: an epoch, or the whole training, has just ended or has not begun.
            batch: of the last step, see `redoubt.probes.interface.View`.
            steps: see there.
        """
        for probe, method, parameters in self.probes:
            if boundary if probe.every == "epoch" else step % probe.every == 0:
                assert self.network is not None, "probes watch a network"
                seed_everything(*self.names, "probe", probe.probe, step)
                with eval_mode(self.network):
                    view = View(self.network, self.inputs, step, epoch, seconds, batch, self.preprocessing, steps)
                    found = method.measure(view, parameters)
                self.rows += [(epoch, step, self._place(probe.probe, name), value) for name, value in found.items()]

    def _place(self, probe: str, measure: str) -> int:
        if [probe, measure] not in self.keys:
            self.keys.append([probe, measure])
        return self.keys.index([probe, measure])

    def tensor(self) -> torch.Tensor:
        """Return all rows as float64 (R, 4)."""
        return torch.tensor(self.rows, dtype=torch.float64).view(-1, 4)

    def restore(self, keys: list[list[str]], rows: torch.Tensor) -> None:
        """Go on from saved `keys` and the `tensor` of their rows."""
        self.keys, self.rows = keys, [tuple(row) for row in rows.tolist()]

    def parquet(self) -> bytes:
        """Return the content of trace.parquet: columns epoch, step, probe, measure, value."""
        epochs, steps, places, values = zip(*self.rows, strict=True) if self.rows else ((), (), (), ())
        columns = {
            "epoch": pa.array(epochs, pa.float64()),
            "step": pa.array([int(step) for step in steps], pa.int64()),
            "probe": pa.array([self.keys[int(place)][0] for place in places], pa.string()),
            "measure": pa.array([self.keys[int(place)][1] for place in places], pa.string()),
            "value": pa.array(values, pa.float64()),
        }
        stream = io.BytesIO()
        pq.write_table(pa.table(columns), stream, compression="zstd", write_page_checksum=True)
        return stream.getvalue()
