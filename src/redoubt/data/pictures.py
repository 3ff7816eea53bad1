"""A folder of the user's pictures as a dataset: train/<class>/* and test/<class>/*, or train.parquet and test.parquet.

All pictures have one size, and are held in memory: at most 200 000 of them and 4 GiB of pixels. A parquet file has the
columns `image` (bytes of a picture, or a mapping with `bytes`, as Hugging Face writes it) and `label` (0, 1, ...).
A picture whose pixels are not beyond doubt is refused by its name; nothing is resized.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from redoubt.data.sources import MOST_PICTURES, MOST_PIXELS, PICTURES, Source
from redoubt.errors import RedoubtError
from redoubt.lazily import lazy

parquet = lazy("pyarrow.parquet")
FORMATS = ("JPEG", "PNG", "BMP")
Named = tuple[str, int, bytes]
"""Name, label and bytes of a picture."""


def read(source: Source, folder: Path) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """Return the images and labels of `train` and `test`, and the classes.

    Pictures of a folder are ordered by their rank within their class and then by class, those of a parquet file as they
    are there.

    Raises:
        RedoubtError: a picture is refused, the splits differ in their classes, or there are too many pictures.
    """
    classes = _classes(folder)
    splits = {split: list(_listed(folder, split, classes)) for split in ("train", "test")}
    names = classes or tuple(str(label) for label in range(1 + max(row[1] for row in splits["train"])))
    for split, rows in splits.items():
        if odd := [label for _, label, _ in rows if not 0 <= label < len(names)]:
            raise RedoubtError(f"{folder}/{split}.parquet: label {odd[0]}: labels of train are 0 to {len(names) - 1}")
    count = sum(map(len, splits.values()))
    if count > MOST_PICTURES or count * int(np.prod(source.shape)) > MOST_PIXELS:
        raise RedoubtError(f"{folder}: {count} pictures of {source.shape}: at most {MOST_PICTURES} and 4 GiB are held")
    return {split: _arrays(source, rows) for split, rows in splits.items()}, names


def _classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes of a folder; none where it holds parquet files."""
    if (folder / "train.parquet").is_file():
        return ()
    found = {
        split: tuple(sorted(own.name for own in (folder / split).iterdir() if own.is_dir() and own.name[0] != "."))
        for split in ("train", "test")
    }
    if found["train"] != found["test"] or not found["train"]:
        raise RedoubtError(f"{folder}: train/ and test/ must have the same folders of classes, at least one")
    return found["train"]


def _listed(folder: Path, split: str, classes: tuple[str, ...]) -> Iterator[Named]:
    if not classes:
        file = folder / f"{split}.parquet"
        try:
            table = parquet.read_table(file, columns=["image", "label"]).to_pylist()
        except Exception as error:  # whatever reading a damaged file raises
            raise RedoubtError(f"{file}: no readable parquet file with columns image, label ({error})") from None
        for number, row in enumerate(table):
            image = row["image"]["bytes"] if isinstance(row["image"], dict) else row["image"]
            yield f"{file}, row {number}", int(row["label"]), image
        return
    columns = []
    for label, name in enumerate(classes):
        own = sorted(path for path in (folder / split / name).iterdir() if path.name[0] != ".")
        if not own:
            raise RedoubtError(f"{folder / split / name}: has no pictures")
        columns.append([(str(path), label, path) for path in own])
    for row in (row for rank in zip_longest(*columns) for row in rank if row is not None):
        if not row[2].is_file() or row[2].suffix.lower() not in PICTURES:
            raise RedoubtError(f"{row[0]}: is no picture ({', '.join(PICTURES)}); remove it")
        yield row[0], row[1], row[2].read_bytes()


def _arrays(source: Source, rows: list[Named]) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.empty((len(rows), *source.shape), np.uint8)
    for place, (name, _, content) in enumerate(rows):
        pixels[place] = decoded(name, content, source.shape)
    return pixels, np.array([label for _, label, _ in rows], np.int64)


def decoded(name: str, content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels (C, H, W) of a picture, 0 to 255, turned as its EXIF data say.

    Raises:
        RedoubtError: it cannot be read, has another size, more than 8 bits, CMYK colours, transparent pixels, several
            frames, or colours where one channel is asked for.
    """
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            small = opened.width * opened.height <= 4 * height * width  # no others are decoded
            picture = ImageOps.exif_transpose(opened) if small else opened
            picture.load() if small else None
            frames = getattr(opened, "n_frames", 1)
    except Exception as error:  # of any of Pillow's many kinds
        raise RedoubtError(f"{name}: cannot be read as a picture: {error}") from None
    if problem := _problem(picture, frames, channels, (width, height)):
        raise RedoubtError(f"{name}: {problem}")
    array = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _problem(picture: Image.Image, frames: int, channels: int, size: tuple[int, int]) -> str | None:
    """Return why a picture is refused, or None."""
    if picture.size != size:
        return f"{picture.width}x{picture.height} pixels; {size[0]}x{size[1]} are expected: resize it"
    if frames > 1:
        return f"{frames} frames; one is expected"
    if picture.mode == "CMYK":
        return "CMYK colours; convert it to RGB"
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        return f"mode {picture.mode}: more than 8 bits a channel; save it with 8"
    alpha = picture.mode in ("LA", "RGBA") or "transparency" in picture.info
    if alpha and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        return "transparent pixels; put it on a background"
    if channels == 1 and picture.mode not in ("1", "L", "LA"):
        colours = np.asarray(picture.convert("RGB"))
        if (colours != colours[..., :1]).any():
            return "colours, where channels: 1 is asked for; convert it to grey, or say channels: 3"
    return None
