"""Export universal perturbations from the rows of an attack: one safetensors file, and one image for each.

An image shows 0 as mid-grey and the largest element, of either sign, as black or white; its name says by how much the
perturbation is amplified for that.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image

from redoubt.errors import cli
from redoubt.files import atomic_path
from redoubt.rows import read_shared


def picture(perturbation: np.ndarray) -> tuple[Image.Image, float]:
    """Return a perturbation (C, H, W) as an image, pixel for pixel, and the factor by which it is amplified."""
    factor = 0.5 / max(float(np.abs(perturbation).max()), 1e-12)
    levels = np.round(255 * np.clip(0.5 + factor * perturbation, 0, 1)).astype(np.uint8)
    return Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)), factor


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="parquet file of a universal attack")
    parser.add_argument("--folder", type=Path, required=True, help="folder to write into")
    options = parser.parse_args(argv)
    tensors = read_shared(options.rows)
    options.folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.folder / "perturbations.safetensors") as path:
        path.write_bytes(safetensors.numpy.save(tensors))
    for name, tensor in sorted(tensors.items()):
        image, factor = picture(tensor)
        with atomic_path(options.folder / f"{name}-x{factor:.3g}.png") as path:
            image.save(path, format="png")
    print(f"{len(tensors)} perturbations in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
