"""A model and images of a user's, as `redoubt attack` and `redoubt evaluate` are given them."""

import importlib
import importlib.util
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError
from redoubt.files import file_digest
from redoubt.lazily import np, torch
from redoubt.study.fractions import fraction, is_fraction


def number(text: str) -> float:
    """Return the number that a text is, such as 0.03 or 8/255.

    Raises:
        ValueError: it is none.
    """
    return fraction(text) if is_fraction(text) else float(text)


def add(parser: ArgumentParser) -> None:
    """Describe the options that name model and images."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        required=True,
        metavar="FILE.py:NAME",
        help="a torch module, or a class or function that makes one without arguments; a file of Python, or an "
        "importable module as package.module:NAME. It maps images in [0, 1] to logits",
    )
    model.add_argument("--weights", type=Path, help="its state_dict: safetensors, or a file of torch.save")
    model.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1...; cpu by default")
    images = parser.add_argument_group("images")
    images.add_argument(
        "--data",
        required=True,
        type=Path,
        help="an .npz file with images (N, C, H, W), float32 in [0, 1] or uint8, and labels (N,); or the folder of a "
        "dataset that the pipeline has fetched, such as results/data/digits, of which the test images are taken",
    )
    images.add_argument("--images", type=int, default=1000, metavar="N", help="the first N; 1000 by default")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--batch-size", type=int, help="images at a time; found from the memory that is free")
    parser.add_argument("--out", type=Path, help="CSV file for the rows, one for each image")


def load(options: Namespace) -> tuple[Any, Any, Any]:
    """Return the model in eval mode, images and labels, on the device.

    Raises:
        RedoubtError: naming what cannot be read.
    """
    network = made(options.model)
    if options.weights is not None:
        from redoubt.models import given

        if not options.weights.is_file():
            raise RedoubtError(f"{options.weights}: no such file")
        given.fill(network, given.read(options.weights, file_digest(options.weights)), options.weights)
    images, labels = pictures(options.data, options.images)
    try:
        return network.eval().to(options.device), images.to(options.device), labels.to(options.device)
    except (RuntimeError, AssertionError) as error:
        raise RedoubtError(f"--device: {options.device}: {str(error).splitlines()[0]}") from None


def made(text: str) -> Any:
    """Return the module that `file.py:Name` or `package.module:Name` says.

    Raises:
        RedoubtError: there is none, or it cannot be made.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise RedoubtError(f"--model: {text!r}: FILE.py:NAME or package.module:NAME is expected")
    try:
        found = getattr(_imported(place), name)
        network = found if isinstance(found, torch.nn.Module) else found()
    except RedoubtError:
        raise
    except Exception as error:  # whatever code of others raises
        raise RedoubtError(f"--model: {text}: it cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(network, torch.nn.Module):
        raise RedoubtError(f"--model: {text}: it makes a {type(network).__name__}; a torch.nn.Module is expected")
    return network


def _imported(place: str) -> Any:
    if not place.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    file = Path(place)
    if not file.is_file():
        raise RedoubtError(f"--model: {place}: no such file")
    sys.path.insert(0, str(file.parent.absolute()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def pictures(path: Path, count: int) -> tuple[Any, Any]:
    """Return the first `count` images (N, C, H, W) as float32 in [0, 1], and their labels (N,).

    Raises:
        RedoubtError: there is no such file or folder, or it has no such arrays.
    """
    if path.is_dir():
        from redoubt.data import store

        split = store.load(path, "test")
        return split.images(slice(0, count)).float() / 255.0, split.labels[:count]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"][:count], arrays["labels"][:count]
    except FileNotFoundError:
        raise RedoubtError(f"--data: {path}: no such file or folder") from None
    except (OSError, ValueError, KeyError) as error:
        raise RedoubtError(f"--data: {path}: no .npz file with images and labels ({error})") from None
    images = torch.from_numpy(images)
    images = images.float() / 255.0 if images.dtype == torch.uint8 else images
    return images, torch.from_numpy(labels).long()
