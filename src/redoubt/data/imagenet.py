"""ImageNet in the user's own folder, laid out as torchvision's ImageFolder: `train/<class>/`, `val/<class>/`.

Nothing is copied. What is published are the paths and labels; pictures are decoded when they are asked for.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from redoubt.data.sources import imagenet_problem, local
from redoubt.errors import RedoubtError
from redoubt.lazily import lazy

torch = lazy("torch")

_SUFFIXES = (".jpeg", ".jpg", ".png")
_FOLDERS = {"train": "train", "test": "val"}
_SIZE = 224
_SHORT_SIDE = 256
_THREADS = 4
# Random-resized crop, as in Inception training: share of the area, aspect ratio, and trials before the centre
# is taken.
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIALS = 10


def scan(folder: Path | str | None) -> tuple[dict[str, dict[str, np.ndarray]], tuple[str, ...]]:
    """Return the labels and paths of every picture, and the classes.

    Pictures are ordered by their rank within their class and then by class, so that the first pictures of a
    split hold every class alike.

    Args:
        folder: the user's folder.

    Returns:
        For `train` and `test` (the folder `val`): int64 `labels` (N,) and `paths`, the UTF-8 bytes of the
        paths below `folder`, one a line; and the class names, sorted.

    Raises:
        RedoubtError: a folder is missing, empty or of other classes, or a name holds a line break.
    """
    if problem := imagenet_problem(folder):
        raise RedoubtError(problem)
    root = local(folder)
    classes = _classes(root / "train")
    if not classes:
        raise RedoubtError(f"imagenet: {root / 'train'} has no class folders")
    if unknown := sorted(set(_classes(root / "val")) - set(classes)):
        raise RedoubtError(f"imagenet: {root / 'val'} has class {unknown[0]!r}, which train/ has not")
    return {split: _listed(root, name, classes) for split, name in _FOLDERS.items()}, classes


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))


def _listed(root: Path, name: str, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    columns = [[(path, label) for path in _pictures(root, name, group)] for label, group in enumerate(classes)]
    rows = [row for row in chain.from_iterable(zip_longest(*columns)) if row is not None]
    if not rows:
        raise RedoubtError(f"imagenet: {root / name} has no pictures ({', '.join(_SUFFIXES)})")
    text = "\n".join(path for path, _ in rows)
    if text.count("\n") != len(rows) - 1:
        raise RedoubtError(f"imagenet: a file name under {root / name} holds a line break; rename it")
    return {
        "labels": np.array([label for _, label in rows], np.int64),
        "paths": np.frombuffer(text.encode(), np.uint8),
    }


def _pictures(root: Path, name: str, group: str) -> list[str]:
    folder = root / name / group
    if not folder.is_dir():
        return []
    return sorted(f"{name}/{group}/{path.name}" for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


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
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            coloured = picture.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise RedoubtError(f"{path}: cannot be read as a picture: {error}") from None
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
