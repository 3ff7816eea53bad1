"""Let torchvision be imported beside a torch that its compiled operators were not built for.

The registry's torchvision is built for CUDA. Beside a CPU build of torch the library of its operators does not load,
and the import fails, since Python wrappers look for the operators `torchvision::nms` and `torchvision::qnms`. Here the
two are declared before torchvision is imported, if that library does not load. Calls of compiled operators then fail;
everything else works.

This file depends on nothing else: `make` puts a copy of it into .venv, where it acts even if redoubt is not imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []  # a declaration ends with its library


def declare(folder: Path) -> bool:
    """Declare the operators unless those of torchvision, which is in `folder`, load; tell whether that was needed."""
    torch = importlib.import_module("torch")
    try:
        for file in folder.glob("_C*.*"):
            torch.ops.load_library(str(file))
    except OSError:
        pass
    lacking = [operator for operator in OPERATORS if not hasattr(torch.ops.torchvision, operator.split("(")[0])]
    if lacking:
        _kept.append(torch.library.Library("torchvision", "FRAGMENT"))
    for operator in lacking:
        _kept[-1].define(operator)
    return bool(lacking)


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        declare(Path(self.path).parent)
        super().exec_module(module)


class _TorchvisionFinder(MetaPathFinder):
    """Finds torchvision as Python does, for a loader that declares first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchvision" or (found := PathFinder.find_spec(fullname, path, target)) is None:
            return None
        if not isinstance(found.loader, SourceFileLoader):
            return None
        return spec_from_file_location(fullname, found.origin, loader=_Loader(fullname, found.loader.path))


if not any(
    type(finder).__name__ == _TorchvisionFinder.__name__ for finder in sys.meta_path
):  # the copy in .venv was first
    sys.meta_path.insert(0, _TorchvisionFinder())
