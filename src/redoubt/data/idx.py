"""The IDX format of MNIST and Fashion-MNIST: big-endian magic and sizes, then unsigned bytes.

Format: the MNIST page of its authors; third byte of the magic 0x08 (unsigned byte), fourth the number of
dimensions.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from redoubt.data.archives import gunzipped
from redoubt.data.sources import Source
from redoubt.errors import RedoubtError

_UNSIGNED_BYTE = 0x08


def read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array in a gzip-compressed IDX file.

    Args:
        path: the file.
        shape: the sizes it must have, e.g. (60000, 28, 28).

    Returns:
        uint8 array of `shape`, read-only.

    Raises:
        RedoubtError: wrong magic, sizes or length, or damaged gzip.
    """
    head = 4 + 4 * len(shape)
    content = b"".join(gunzipped(path, head + math.prod(shape)))
    if len(content) < head:
        raise RedoubtError(f"{path.name}: truncated: {len(content)} bytes, not even a header")
    magic, *sizes = struct.unpack_from(f">{1 + len(shape)}I", content)
    expected = _UNSIGNED_BYTE << 8 | len(shape)
    if magic != expected:
        raise RedoubtError(f"{path.name}: wrong magic number 0x{magic:08x}; expected 0x{expected:08x}")
    if tuple(sizes) != shape:
        raise RedoubtError(f"{path.name}: holds {_times(sizes)} values; expected {_times(shape)}")
    if len(content) != head + math.prod(shape):
        raise RedoubtError(f"{path.name}: {len(content)} bytes; its header promises {head + math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def unpack(source: Source, paths: Mapping[str, Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the images and labels of a dataset kept as IDX files.

    Args:
        source: the dataset; its files are train images, train labels, test images and test labels, in this
            order.
        paths: where each of its files lies, by mirror path.

    Returns:
        For `train` and `test`: uint8 images (N, 1, H, W) and int64 labels (N,).

    Raises:
        RedoubtError: a file is not what the dataset says, or a label names no class.
    """
    splits = {}
    for number, split in enumerate(("train", "test")):
        pixels, digits = (paths[file.path] for file in source.files[2 * number : 2 * number + 2])
        count = source.counts[split]
        labels = read(digits, (count,)).astype(np.int64)
        if count and labels.max() >= len(source.classes):
            raise RedoubtError(f"{digits.name}: label {labels.max()} names none of {len(source.classes)} classes")
        splits[split] = (read(pixels, (count, *source.shape[1:])).reshape(count, *source.shape), labels)
    return splits


def _times(sizes: list[int] | tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in sizes)
