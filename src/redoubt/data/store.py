"""Published datasets: one safetensors file per split; `meta.json`, written last, holds their digests.

meta.json    name, title, shape, classes, counts, sha256 (per split, over its tensors), sources, root
(ImageNet) <split>.safetensors    images uint8 (N, C, H, W) and labels int64 (N,); for ImageNet labels and
paths
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from redoubt.data.imagenet import FolderSplit
from redoubt.errors import RedoubtError, storing
from redoubt.files import atomic_path, json_text, read_json, tensor_digest
from redoubt.lazily import torch

SPLITS = ("train", "test")
META = "meta.json"
_DTYPES = {"images": "uint8", "labels": "int64", "paths": "uint8"}


class Split(Protocol):
    """One split of a dataset.

    Attributes:
        labels: int64 (N,), class numbers.
        in_memory: whether all pixels are held in memory, so that access is cheap.
    """

    labels: torch.Tensor
    in_memory: bool

    def __len__(self) -> int:
        """Return the number of images."""

    def images(
        self,
        indices: torch.Tensor | slice | None = None,
        crop: str = "center",
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return uint8 images (B, C, H, W) of 0..255; read-only, since they may share the split's memory.

        Args:
            indices: LongTensor (B,) or slice; all when None.
            crop: `center` or `random`; matters only where pictures are larger than the dataset's shape
                (ImageNet).
            generator: source of the random crops.
        """


class MemorySplit:
    """A split held in memory; its images have their final size, so `crop` changes nothing."""

    in_memory = True

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.labels = labels
        self._images = images

    def __len__(self) -> int:
        return len(self.labels)

    def images(
        self,
        indices: torch.Tensor | slice | None = None,
        crop: str = "center",
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return uint8 images (B, C, H, W) of 0..255; see `Split.images`."""
        return self._images if indices is None else self._images[indices]


def load(folder: Path | str, split: str) -> Split:
    """Load one split of a published dataset.

    Args:
        folder: where `download` published it.
        split: `train` or `test`.

    Returns:
        The split; for ImageNet one that decodes pictures on access.

    Raises:
        RedoubtError: nothing is published there, or the tensors are not those that `meta.json` describes.
    """
    folder = Path(folder)
    meta = read_json(folder / META)
    tensors = _verified(folder / _split_file(split), split, meta)
    labels = torch.from_numpy(tensors["labels"])
    if "images" in tensors:
        return MemorySplit(torch.from_numpy(tensors["images"]), labels)
    root = Path(os.fsdecode(meta["root"].encode()))  # stored as UTF-8, whatever the locale
    if not root.is_dir():
        raise RedoubtError(f"{folder}: its pictures are in {root}, which no longer exists; run download again")
    return FolderSplit(root, labels, os.fsdecode(tensors["paths"].tobytes()).split("\n"))


def publish(folder: Path | str, splits: Mapping[str, Mapping[str, np.ndarray]], meta: Mapping[str, Any]) -> None:
    """Publish a dataset atomically, replacing whatever the folder holds.

    Args:
        folder: target folder; created if it is missing.
        splits: for `train` and `test`: `labels` int64 (N,), with `images` uint8 (N, C, H, W) or, for pictures
            that stay elsewhere, `paths` uint8 (bytes).
        meta: facts about it: at least `name`, `shape` and `classes`; counts and digests are added.

    Raises:
        RedoubtError: it cannot be written; the dataset published before is unchanged.
    """
    folder = Path(folder)
    arrays = {split: {name: np.ascontiguousarray(array) for name, array in splits[split].items()} for split in SPLITS}
    whole = {
        **meta,
        "counts": {split: len(arrays[split]["labels"]) for split in SPLITS},
        "sha256": {split: tensor_digest(arrays[split]) for split in SPLITS},
    }
    with contextlib.ExitStack() as stack:  # renamed in reverse order
        meta_path, *paths = [
            stack.enter_context(atomic_path(folder / name)) for name in (META, *map(_split_file, SPLITS))
        ]
        for split, path in zip(SPLITS, paths, strict=True):
            with storing(folder / _split_file(split)):
                _write(path, save(arrays[split]))
        meta_path.write_text(json_text(whole), encoding="utf-8")
        # Between the first and the last rename the folder holds a mixture; without its meta.json it cannot
        # be loaded.
        (folder / META).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())  # before anything is renamed


def _split_file(split: str) -> str:
    return f"{split}.safetensors"


def _verified(path: Path, split: str, meta: dict[str, Any]) -> dict[str, np.ndarray]:
    remedy = "run download again"
    try:
        tensors = load_file(path)
        count, digest = meta["counts"][split], meta["sha256"][split]
        shapes = {"images": (count, *meta["shape"]), "labels": (count,)}
    except FileNotFoundError:
        raise RedoubtError(f"{path}: no such file; {remedy}") from None
    except (SafetensorError, OSError) as error:
        raise RedoubtError(f"{path}: damaged ({error}); {remedy}") from None
    except (KeyError, TypeError):
        raise RedoubtError(f"{path.parent / META}: does not describe the split '{split}'; {remedy}") from None
    for name, array in sorted(tensors.items()):
        if array.shape != shapes.get(name, array.shape) or array.dtype != _DTYPES.get(name):
            expected = f"{_DTYPES.get(name)} {list(shapes.get(name, ()))}"
            found = f"{array.dtype} {list(array.shape)}"
            raise RedoubtError(f"{path}: {name} is {found}; meta.json says {expected}; {remedy}")
    if tensor_digest(tensors) != digest:
        raise RedoubtError(f"{path}: its tensors are not those that meta.json describes (wrong sha256); {remedy}")
    return tensors
