"""The binary archives of CIFAR-10 and CIFAR-100: records of label bytes and 3072 pixels, channel by channel.

The Python archives hold the same images as pickles, which can run code when they are loaded; they are never
opened.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from redoubt.data.archives import members
from redoubt.data.sources import Source
from redoubt.errors import RedoubtError

_PIXELS = 3 * 32 * 32
# Space for the headers and the few text files of an archive.
_SLACK = 2**20
# Per dataset: label bytes of a record (the last is the class used here) and the members of each split.
_LAYOUTS: dict[str, tuple[int, dict[str, tuple[str, ...]]]] = {
    "cifar10": (
        1,
        {
            "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
            "test": ("cifar-10-batches-bin/test_batch.bin",),
        },
    ),
    # A record starts with the coarse label; the fine one, of 100 classes, follows it.
    "cifar100": (2, {"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)}),
}


def unpack(source: Source, paths: Mapping[str, Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the images and labels of CIFAR-10 or CIFAR-100 (fine labels), in the archive's order.

    Args:
        source: the dataset.
        paths: where its archive lies, by mirror path.

    Returns:
        For `train` and `test`: uint8 images (N, 3, 32, 32) and int64 labels (N,).

    Raises:
        RedoubtError: the archive is unsafe, a batch is missing, of the wrong length or of the wrong count, or
            a label names no class.
    """
    labels_each, batches = _LAYOUTS[source.name]
    archive = paths[source.files[0].path]
    limit = sum(source.counts.values()) * (labels_each + _PIXELS) + _SLACK
    wanted = {name for names in batches.values() for name in names}
    contents = {name: content for name, content in members(archive, limit) if name in wanted}
    splits = {}
    for split, names in batches.items():
        records = np.concatenate([_records(archive, name, contents, labels_each) for name in names])
        splits[split] = _split(archive, split, records, labels_each, source)
    return splits


def _records(archive: Path, name: str, contents: Mapping[str, bytes], labels_each: int) -> np.ndarray:
    if name not in contents:
        raise RedoubtError(f"{archive.name}: has no member {name}")
    length = labels_each + _PIXELS
    if len(contents[name]) % length:
        raise RedoubtError(f"{archive.name}: {name} has {len(contents[name])} bytes, not whole {length}-byte records")
    return np.frombuffer(contents[name], np.uint8).reshape(-1, length)


def _split(
    archive: Path, split: str, records: np.ndarray, labels_each: int, source: Source
) -> tuple[np.ndarray, np.ndarray]:
    if len(records) != source.counts[split]:
        raise RedoubtError(f"{archive.name}: {len(records)} {split} images; expected {source.counts[split]}")
    labels = records[:, labels_each - 1].astype(np.int64)
    if labels.max(initial=0) >= len(source.classes):
        raise RedoubtError(f"{archive.name}: label {labels.max()} names none of {len(source.classes)} classes")
    return np.ascontiguousarray(records[:, labels_each:]).reshape(-1, *source.shape), labels
