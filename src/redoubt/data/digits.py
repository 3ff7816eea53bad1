"""Scikit-learn's handwritten digits, enlarged: real data that needs no download.

The 8x8 digits (0 to 16 grey levels) are stretched to 0..255, enlarged with Pillow's bilinear filter, which
computes in integers and so gives the same bytes everywhere, and framed by 4 pixels of background, as MNIST's
digits are.
"""

import hashlib

import numpy as np
from PIL import Image

from redoubt.data.sources import Source

_LEVELS = 16
_FRAME = 4
_TEST_EVERY = 4


def build(source: Source) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the images and labels of `digits` or `digits-rgb`.

    Every fourth image, starting with the first, is a test image. A source with three channels gets, per
    image, a dark background and a bright foreground colour that depend on the image's number alone.

    Args:
        source: the dataset.

    Returns:
        For `train` and `test`: uint8 images (N, C, H, W) of 0..255 and int64 labels (N,).
    """
    # Importing it takes a second, and only this dataset needs it.
    from sklearn.datasets import load_digits

    raw = load_digits()
    grey = np.stack([_enlarged(digit, source.shape[1]) for digit in raw.images])
    images = grey[:, None] if source.shape[0] == 1 else _coloured(grey)
    labels = raw.target.astype(np.int64)
    test = np.arange(len(labels)) % _TEST_EVERY == 0
    return {
        "train": (np.ascontiguousarray(images[~test]), labels[~test]),
        "test": (np.ascontiguousarray(images[test]), labels[test]),
    }


def _enlarged(digit: np.ndarray, size: int) -> np.ndarray:
    stretched = np.round(digit * (255 / _LEVELS)).astype(np.uint8)
    inner = size - 2 * _FRAME
    picture = Image.fromarray(stretched).resize((inner, inner), Image.Resampling.BILINEAR)
    return np.pad(np.asarray(picture), _FRAME)


def _coloured(grey: np.ndarray) -> np.ndarray:
    """Turn ink (N, H, W) of 0..255 into colours (N, 3, H, W): background 0..95, foreground 160..255."""
    colours = np.stack([_bytes_of(number) for number in range(len(grey))]).astype(np.int64)
    background = (colours[:, :3] * 95 // 255)[:, :, None, None]
    foreground = (160 + colours[:, 3:] * 95 // 255)[:, :, None, None]
    ink = grey[:, None].astype(np.int64)
    return ((background * (255 - ink) + foreground * ink + 127) // 255).astype(np.uint8)


def _bytes_of(number: int) -> np.ndarray:
    # A hash, not a random generator: NumPy does not promise the same stream in every version.
    return np.frombuffer(hashlib.sha256(f"digits-rgb:{number}".encode()).digest()[:6], np.uint8)
