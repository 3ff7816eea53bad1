"""The state of an unfinished training, or attack, on disk."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from redoubt.files import atomic_path, tensor_digest

SAVE_EVERY_SECONDS = 30.0


@dataclass
class Resume:
    """A state on disk: one safetensors file, replaced whole.

    Args:
        folder: its place, named by the hash of entry, seed and data; None keeps nothing.
        every: seconds between two saves.
        made_by: returns the digest of the code that trains or attacks, which takes half a second, when it is needed;
            a state of another one is not taken up.
    """

    folder: Path | None
    every: float = SAVE_EVERY_SECONDS
    made_by: Callable[[], str] = str
    _saved: float = field(default_factory=time.monotonic)
    _origin: str = ""

    def due(self) -> bool:
        """Tell whether it is time to save again."""
        return self.folder is not None and time.monotonic() - self._saved >= self.every

    def save(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Write the state; the order of the facts' keys is kept, since it is that of the history's columns."""
        if self.folder is None:
            return
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"facts": json.dumps(facts), "sha256": self._digest(tensors, json.dumps(facts))}
        with atomic_path(self.folder / "state.safetensors") as path:
            path.write_bytes(safetensors.torch.save(tensors, metadata))
        self._saved = time.monotonic()

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return the saved state, or None when there is none that can be read."""
        if self.folder is None or not (path := self.folder / "state.safetensors").exists():
            return None
        try:
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata["sha256"] == self._digest(tensors, metadata["facts"]):
                return tensors, json.loads(metadata["facts"])
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError):
            pass
        return None  # a torn state costs a restart, never a wrong result

    def _digest(self, tensors: dict[str, torch.Tensor], facts: str) -> str:
        self._origin = self._origin or self.made_by()
        return tensor_digest({name: tensor.numpy() for name, tensor in tensors.items()}, self._origin, facts)

    def clear(self) -> None:
        """Remove the folder."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
