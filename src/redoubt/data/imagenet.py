"""ImageNet in the user's own folder, laid out as torchvision's ImageFolder: `train/<class>/`, `val/<class>/`.

Nothing is copied. What is published are the paths and labels; pictures are decoded when they are asked for.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from redoubt.data.sources import imagenet_problem, local
from redoubt.errors import RedoubtError
from redoubt.lazily import torch
from redoubt.progress import progress

_SUFFIXES = (".jpeg", ".jpg", ".png")
_FOLDERS = {"train": "train", "test": "val"}
_SIZE = 224
_SHORT_SIDE = 256
_JPEG_END = b"\xff\xd9"
_SLIMMEST = 1000  # long side over short side; resizing a slimmer picture would need gigabytes
_THREADS = 4
# Random-resized crop, as in Inception training: share of the area, aspect ratio, and trials before the centre
# is taken.
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIALS = 10


def scan(folder: Path | str | None) -> tuple[dict[str, dict[str, np.ndarray]], tuple[str, ...]]:
    """Return the labels and paths of every picture, and the classes.

    A class is a folder below `train/`; its pictures may lie in sub-folders, as torchvision's ImageFolder reads them.
    Hidden files and folders (`.ipynb_checkpoints`, `._picture.JPEG`) are ignored. The header and the end of every
    picture are read, which takes minutes and finds what is no picture, is cut off or too heavy; decoding all would take
    hours.

    Pictures are ordered by their rank within their class and then by class, so that the first pictures of a
    split hold every class alike.

    Args:
        folder: the user's folder.

    Returns:
        For `train` and `test` (the folder `val`): int64 `labels` (N,) and `paths`, the bytes of the
        paths below `folder`, one a line; and the class names, sorted.

    Raises:
        RedoubtError: a folder is missing, a class has no pictures, train/ and val/ differ in their classes, a name
            cannot be stored, or a picture cannot be read; the message names the folder or file.
    """
    if problem := imagenet_problem(folder):
        raise RedoubtError(problem)
    assert folder is not None, "which were a problem"
    root = local(folder)
    classes = _classes(root / "train")
    if not classes:
        raise RedoubtError(f"imagenet: {root / 'train'} has no class folders")
    if different := sorted(set(classes) ^ set(_classes(root / "val"))):
        has, lacks = ("train", "val") if different[0] in classes else ("val", "train")
        raise RedoubtError(f"imagenet: {root / has} has class {different[0]!r}, which {lacks}/ lacks")
    listed = {split: _listed(root, name, classes) for split, name in _FOLDERS.items()}
    _check_pictures(root, [path for rows in listed.values() for path, _ in rows])
    return {split: _arrays(rows) for split, rows in listed.items()}, tuple(map(as_utf8, classes))


def as_utf8(path: Path | str) -> str:
    """Return a path or name of a file as the text that its bytes are in UTF-8, whatever the locale.

    Raises:
        RedoubtError: its bytes are not UTF-8.
    """
    try:
        return os.fsencode(path).decode()
    except UnicodeDecodeError:
        raise RedoubtError(f"imagenet: the name {os.fsencode(path)!r} is not UTF-8; rename it") from None


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))


def _listed(root: Path, name: str, classes: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return (path below `root`, label) of all pictures of one split."""
    columns = [[(path, label) for path in _pictures(root, f"{name}/{group}")] for label, group in enumerate(classes)]
    return [row for row in chain.from_iterable(zip_longest(*columns)) if row is not None]


def _pictures(root: Path, group: str) -> list[str]:
    """Return the pictures of one class, sorted by folder and name."""
    found, seen = [], set()
    for folder, inner, files in os.walk(root / group, followlinks=True, onerror=_unreadable):
        seen.add(os.path.realpath(folder))  # links may form a circle
        inner[:] = [
            name for name in sorted(inner) if name[0] != "." and os.path.realpath(f"{folder}/{name}") not in seen
        ]
        place = os.path.relpath(folder, root)
        found += [(place, name) for name in files if name[0] != "." and name.lower().endswith(_SUFFIXES)]
    if not found:
        remedy = "finish unpacking it, or remove the folder"
        raise RedoubtError(f"imagenet: {root / group} has no pictures ({', '.join(_SUFFIXES)}); {remedy}")
    if any("\n" in place + name for place, name in found):
        raise RedoubtError(f"imagenet: a name under {root / group} holds a line break; rename it")
    return [f"{place}/{name}" for place, name in sorted(found)]


def _unreadable(error: OSError) -> None:
    raise RedoubtError(f"imagenet: {error.filename}: {error.strerror}")


def _arrays(rows: list[tuple[str, int]]) -> dict[str, np.ndarray]:
    """Return labels, and paths as the bytes that the file system knows, so that names in any encoding are found."""
    return {
        "labels": np.array([label for _, label in rows], np.int64),
        "paths": np.frombuffer(os.fsencode("\n".join(path for path, _ in rows)), np.uint8),
    }


def _check_pictures(root: Path, paths: list[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool, warnings.catch_warnings(action="ignore"):  # large ones are refused below
        checked = progress(pool.map(lambda path: _problem(root / path), paths), "pictures", total=len(paths))
        problems = [problem for problem in checked if problem]
    if problems:
        more = f" (and {len(problems) - 1} more pictures)" if problems[1:] else ""
        raise RedoubtError(f"imagenet: {problems[0]}{more}; replace or remove it")


def _problem(path: Path) -> str | None:
    """Return why a picture cannot be used, as far as that shows without decoding it, or None."""
    most = Image.MAX_IMAGE_PIXELS or math.inf
    try:
        with _opened(path) as picture:
            short, long = sorted(picture.size)
            if short * long <= most:
                _check_end(picture, path)
    except RedoubtError as error:
        return str(error)
    if short * long > most or long > _SLIMMEST * short:
        return f"{path}: {picture.width}x{picture.height} pixels are too many, or too slim"
    return None


def _check_end(picture: Image.Image, path: Path) -> None:
    """Raise an error if a picture is cut off: a PNG has checksums; a JPEG without an end mark is decoded."""
    if picture.format == "PNG":
        picture.verify()
        return
    with path.open("rb") as stream:
        stream.seek(-len(_JPEG_END), os.SEEK_END)
        if stream.read() != _JPEG_END:
            picture.load()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; an error while it is open, of any of Pillow's many kinds, names the file."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            yield picture
    except Exception as error:
        raise RedoubtError(f"{path}: cannot be read as a picture: {error}") from None


class FolderSplit:
    """A split whose pictures stay in the user's folder; see `store.Split`."""

    in_memory = False

    def __init__(self, root: Path, labels: torch.Tensor, paths: list[str]) -> None:
        self.labels = labels
        self._root, self._paths = root, paths

    def __len__(self) -> int:
        return len(self._paths)

    def images(
        self,
        indices: torch.Tensor | slice | None = None,
        crop: str = "center",
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Decode pictures.

        Args:
            indices: which; all when None.
            crop: `center` (short side to 256, central 224x224) or `random` (random-resized crop to 224x224).
            generator: source of the random crops; torch's global one when None.

        Returns:
            uint8 (B, 3, 224, 224) of 0..255.

        Raises:
            RedoubtError: a picture is missing or cannot be decoded; the message names it.
            ValueError: unknown crop.

        Randomness: all numbers are drawn before decoding starts, so threads cannot change them.
        """
        if crop not in ("center", "random"):
            raise ValueError(f"crop must be 'center' or 'random', got {crop!r}")
        rows = torch.arange(len(self))[slice(None) if indices is None else indices].tolist()
        pixels = np.empty((len(rows), _SIZE, _SIZE, 3), np.uint8)
        draws = None
        if crop == "random":
            draws = torch.rand(len(rows), _TRIALS, 4, generator=generator, dtype=torch.float64).numpy()

        def decode(position: int) -> None:
            pixels[position] = _cropped(self._root / self._paths[rows[position]], draws, position)

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(decode, range(len(rows))))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _cropped(path: Path, draws: np.ndarray | None, position: int) -> np.ndarray:
    with _opened(path) as picture:
        coloured = picture.convert("RGB")
    return np.asarray(_central(coloured) if draws is None else _random(coloured, draws[position]))


def _central(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    short = min(width, height)
    size = (_SHORT_SIDE * width // short, _SHORT_SIDE * height // short)
    left, top = round((size[0] - _SIZE) / 2), round((size[1] - _SIZE) / 2)
    return picture.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + _SIZE, top + _SIZE))


def _random(picture: Image.Image, draws: np.ndarray) -> Image.Image:
    """Cut a window of random area, shape and place; the largest central square where no trial fits."""
    width, height = picture.size
    for area, ratio, across, down in draws:
        target = width * height * (_AREA[0] + (_AREA[1] - _AREA[0]) * area)
        shape = math.exp(math.log(_RATIO[0]) + math.log(_RATIO[1] / _RATIO[0]) * ratio)
        size = max(1, round(math.sqrt(target * shape))), max(1, round(math.sqrt(target / shape)))
        if size[0] <= width and size[1] <= height:
            left, top = int(across * (width - size[0] + 1)), int(down * (height - size[1] + 1))
            break
    else:
        size = (min(width, height),) * 2
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
    box = (left, top, left + size[0], top + size[1])
    # Cut first: resizing with a box would blend in the pixels just outside it.
    return picture.crop(box).resize((_SIZE, _SIZE), Image.Resampling.BILINEAR)
