"""An attack in blocks of images: what is finished is kept on disk, so that a killed attack goes on from there.

A block is a batch, as the attack would have seen it anyway: examples and rows have the same bytes whether the attack
was stopped or not, and however often. What is not made in blocks is one block: a probe, an attack that looks at all
images before it crafts one (it says so by `joint(parameters)`), and a sweep over a random model, whose draws follow
each other through all images of one value before those of the next.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import torch

from redoubt import registry
from redoubt.attacks._finite import Finite
from redoubt.attacks._kept import Kept
from redoubt.attacks.interface import Batches
from redoubt.study.entries.attack import AttackEntry
from redoubt.training.resume import Resume

Tensors = dict[str, torch.Tensor]


class Block(Batches):
    """The batches of some images that follow each other; places are those among all images.

    Args:
        whole: all batches.
        first: place of the first image.
        end: place behind the last one.
    """

    def __init__(self, whole: Batches, first: int, end: int) -> None:
        super().__init__(whole.images, whole.labels, whole.size)
        self.first, self.end = first, end

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        yield from (batch for batch in super().__iter__() if self.first <= batch[0] < self.end)


def in_one(entry: AttackEntry, options: Any, random: bool) -> bool:
    """Tell whether an attack is made in one block.

    Args:
        entry: the attack's.
        options: its parameters.
        random: predictions of the model that it is crafted on, or of the one that is scored, differ from call to call.
    """
    kind, name = entry.method
    joint = getattr(registry.method(kind, name), "joint", lambda parameters: False)
    sweeps = any(isinstance(value, (list, tuple)) and len(value) > 1 for value in options.model_dump().values())
    return kind != "attacks" or joint(options) or (random and sweeps)


class Unfinished(Kept):
    """Rows of the finished blocks of an attack, and what a crafting on many images has so far.

    Args:
        resume: where they are kept; a state that is there is gone on from.
        finite: counts of gradients belong to the state; None of a probe.
        where: the device that draws.
    """

    def __init__(self, resume: Resume, finite: Finite | None, where: torch.device) -> None:
        self.resume, self.finite, self.where = resume, finite, where
        self.done = 0  # images of finished blocks
        self.rows: list[list[pd.DataFrame]] = []  # by block and part
        self.shared: Tensors = {}
        self._stored: Tensors = {}  # rows, as bytes
        self._kept: dict[str, Tensors] = {}
        self._from_disk: set[str] = set()
        if (state := resume.load()) is not None:
            self._restore(*state)

    def left(self, batches: Batches, whole: bool, turns: int = 1) -> list[tuple[int, Block]]:
        """Return the blocks that are not finished, each with its turn.

        Args:
            batches: all batches.
            whole: they are one block.
            turns: times that all images are attacked, one time after the other.
        """
        count = len(batches)
        size = count if whole else batches.size
        blocks = [Block(batches, first, min(first + size, count)) for first in range(0, count, size)]
        if self.done:
            print(f"resumed after image {self.done} of {turns * count}", file=sys.stderr)
        return [(turn, block) for turn in range(turns) for block in blocks if turn * count + block.first >= self.done]

    def finished(self, turn: int, block: Block, parts: list[pd.DataFrame], shared: Tensors) -> None:
        """Add the rows of a block, by the parts that its attack yielded, and save them if it is time to."""
        self.rows.append(parts)
        self.shared |= {name: tensor.clone() for name, tensor in shared.items()}  # not the memory of what is kept
        self.done = turn * len(block) + block.end
        self._from_disk.clear()
        if self.resume.due():
            self._write()

    def frame(self, turns: int = 1) -> pd.DataFrame:
        """Return all rows: those of a turn, and in it of a part of the attack, such as an epsilon, before the next."""
        each = len(self.rows) // turns
        ordered = (zip(*self.rows[turn * each : (turn + 1) * each], strict=True) for turn in range(turns))
        return pd.concat([rows for turn in ordered for part in turn for rows in part], ignore_index=True)

    # -- a crafting on many images -------------------------------------------------------------------------------------

    def load(self, name: str) -> Tensors | None:
        """Return what was kept under a name; draws and counts go on from there, unless finished blocks follow it."""
        found = self._kept.get(name)
        if found is not None and name in self._from_disk and not self.done:
            self._go_on_from(found)
        return found

    def save(self, name: str, tensors: Callable[[], Tensors], end: bool = False) -> None:
        """Keep something under a name, if it is time to; at the `end` of its crafting in any case."""
        due = self.resume.due()
        if due or end:
            own = {key: tensor.detach().cpu().clone() for key, tensor in tensors().items()}
            self._kept[name] = own | self._moment()
        if due:
            self._write()

    # -- on disk -------------------------------------------------------------------------------------------------------

    def _moment(self) -> Tensors:
        """Return the state of torch's generators and the counts of gradients."""
        counts = (self.finite.gradients, self.finite.moved) if self.finite else (0, 0)
        draws = {"draws": torch.get_rng_state(), "counts": torch.tensor(counts)}
        return draws | ({"cuda": torch.cuda.get_rng_state(self.where)} if self.where.type == "cuda" else {})

    def _go_on_from(self, moment: Tensors) -> None:
        torch.set_rng_state(moment["draws"])
        if self.where.type == "cuda" and "cuda" in moment:
            torch.cuda.set_rng_state(moment["cuda"], self.where)
        if self.finite is not None:
            self.finite.gradients, self.finite.moved = moment["counts"].tolist()

    def _write(self) -> None:
        """Write the state; a model that has given logits that are not finite has none."""
        if self.finite is not None:
            self.finite.share_checked()
        for place in range(len({name.split(".")[1] for name in self._stored}), len(self.rows)):
            parts = enumerate(self.rows[place])
            self._stored |= {f"rows.{place}.{part}": _bytes_of(frame) for part, frame in parts}
        tensors = self._stored | {f"now.{name}": tensor for name, tensor in self._moment().items()}
        tensors |= {f"shared.{name}": tensor for name, tensor in self.shared.items()}
        for name, own in self._kept.items():
            tensors |= {f"kept.{key}.{name}": tensor for key, tensor in own.items()}
        self.resume.save(tensors, {"done": self.done, "parts": [len(parts) for parts in self.rows]})

    def _restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        self.done = facts["done"]
        moment: Tensors = {}
        for full, tensor in tensors.items():
            kind, key, *rest = full.split(".", 2)
            if kind == "rows":
                self._stored[full] = tensor
            elif kind == "now":
                moment[key] = tensor
            elif kind == "shared":
                self.shared[full.split(".", 1)[1]] = tensor
            else:
                self._kept.setdefault(rest[0], {})[key] = tensor
        for place, count in enumerate(facts["parts"]):
            self.rows.append([_frame_of(self._stored[f"rows.{place}.{part}"]) for part in range(count)])
        self._from_disk = set(self._kept)
        if self.done:
            self._go_on_from(moment)


def _bytes_of(frame: pd.DataFrame) -> torch.Tensor:
    stream = io.BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)


def _frame_of(content: torch.Tensor) -> pd.DataFrame:
    return pa.ipc.open_stream(content.numpy().tobytes()).read_pandas()
