"""CIFAR-10 re-encoded as JPEG: an archive of small pictures, one folder per split and class.

The pictures differ from CIFAR-10's by JPEG losses, so this is a separate dataset.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from redoubt.data.archives import members
from redoubt.data.sources import Source
from redoubt.errors import RedoubtError
from redoubt.progress import progress

# A 32x32 picture takes about 1 kB; a tar header, padding and the picture stay under this.
_BYTES_EACH = 8192
_NAME = re.compile(r"[\w-]+/(train|test)/([^/]+)/(\d+)\.jpg")

# (number, label, JPEG bytes); sorting it orders pictures by number and then by class.
_Picture = tuple[int, int, bytes]


def unpack(source: Source, paths: Mapping[str, Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the images and labels of an archive with members `<name>/<split>/<class>/<number>.jpg`.

    Images are ordered by number and then by class, so that every class is equally frequent among the
    first images of a split.

    Args:
        source: the dataset.
        paths: where its archive lies, by mirror path.

    Returns:
        For `train` and `test`: uint8 images (N, C, H, W) and int64 labels (N,).

    Raises:
        RedoubtError: the archive is unsafe, holds anything else, too many or too few images, or one that
            cannot be read or has the wrong size.
    """
    archive = paths[source.files[0].path]
    found = _sorted_pictures(archive, source)
    splits = {}
    for split, count in source.counts.items():
        if len(found[split]) != count:
            raise RedoubtError(f"{archive.name}: {len(found[split])} {split} images; expected {count}")
        splits[split] = _decoded(archive, source, found[split])
    return splits


def _sorted_pictures(archive: Path, source: Source) -> dict[str, list[_Picture]]:
    """Return (number, label, JPEG bytes) of every picture, by split."""
    labels = {name: label for label, name in enumerate(source.classes)}
    found: dict[str, list[_Picture]] = {split: [] for split in source.counts}
    limit = sum(source.counts.values()) * _BYTES_EACH + 2**20
    for name, content in members(archive, limit):
        match = _NAME.fullmatch(name)
        if match is None or match[1] not in found or match[2] not in labels:
            raise RedoubtError(f"{archive.name}: member {name!r} is not one of its pictures; the archive is refused")
        found[match[1]].append((int(match[3]), labels[match[2]], content))
    return {split: sorted(pictures) for split, pictures in found.items()}


def _decoded(archive: Path, source: Source, pictures: list[_Picture]) -> tuple[np.ndarray, np.ndarray]:
    height, width = source.shape[1:]
    pixels = np.empty((len(pictures), height, width, 3), np.uint8)
    # One thread: for pictures this small, a pool was measured to be slower.
    for row, (number, label, content) in enumerate(progress(pictures, archive.name, unit="image")):
        try:
            pixels[row] = _pixels(content, (width, height))
        except (OSError, Image.DecompressionBombError) as error:
            name = f"{source.classes[label]}/{number:04d}.jpg"
            raise RedoubtError(f"{archive.name}: {name} cannot be read: {error}") from None
    labels = np.array([label for _, label, _ in pictures], np.int64)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), labels


def _pixels(content: bytes, size: tuple[int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
        if picture.size != size:
            raise OSError(f"it has {picture.width}x{picture.height} pixels; expected {size[0]}x{size[1]}")
        return np.asarray(picture.convert("RGB"))
