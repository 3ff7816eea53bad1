"""Fetch, check and publish one dataset: bytes from a mirror become tensors that every later step reads.

Writes `train.safetensors`, `test.safetensors` and `meta.json` into a folder, either all or none.
"""

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redoubt.data import cifar, digits, idx, imagenet, jpeg, pictures, sources, store
from redoubt.data.fetch import fetch
from redoubt.data.sources import Source
from redoubt.errors import cli
from redoubt.files import parse_json
from redoubt.lazily import lazy

vision = lazy("redoubt.networks._vision")
_READERS = {"idx": idx.unpack, "cifar": cifar.unpack, "jpeg": jpeg.unpack}


def run(
    source: Source,
    folder: Path,
    mirrors: Sequence[str],
    imagenet_folder: Path | None = None,
    partial: Path | None = None,
    pictures_folder: Path | None = None,
) -> dict[str, int]:
    """Publish a dataset in `folder`.

    Args:
        source: the dataset.
        folder: where it is published; an older copy there is replaced only once the new one is complete.
        mirrors: directories, http(s) addresses or `official`, tried in order.
        imagenet_folder: the user's ImageNet, for that dataset alone.
        pictures_folder: of a dataset that is a folder of the user's.
        partial: where interrupted downloads wait to be resumed; `.partial/<dataset>` beside `folder` when
            None.

    Returns:
        Images per split.

    Raises:
        RedoubtError: no mirror delivers a file, a file is not what it should be, or it cannot be stored.
    """
    partial = partial or folder.parent / ".partial" / source.name
    meta: dict[str, Any] = {"name": source.name, "title": source.title, "shape": list(source.shape)}
    if source.layout == "imagenet":
        splits, classes = imagenet.scan(imagenet_folder)
        assert imagenet_folder is not None, "scanned"
        root = imagenet.as_utf8(sources.local(imagenet_folder).resolve())
        weights = [vision.fetch(name) for name in vision.PUBLISHED]  # of the networks that are trained on it elsewhere
        meta |= {"classes": list(classes), "root": root, "sources": weights}
    elif source.layout == "folder":
        assert pictures_folder is not None, "which the dataset was made of"
        arrays, classes = pictures.read(source, pictures_folder)
        splits = {split: {"images": images, "labels": labels} for split, (images, labels) in arrays.items()}
        meta |= {"classes": list(classes), "sources": [{"path": source.name, "sha256": source.files[0].sha256}]}
    else:
        found = {file.path: fetch(file, mirrors, partial) for file in source.files}
        splits = _unpacked(source, {path: file for path, (file, _) in found.items()})
        meta |= {"classes": list(source.classes), "sources": _provenance(source, found)}
    store.publish(folder, splits, meta)
    _forget(partial)
    return {split: len(splits[split]["labels"]) for split in store.SPLITS}


def _unpacked(source: Source, paths: Mapping[str, Path]) -> dict[str, dict[str, np.ndarray]]:
    arrays = digits.build(source) if source.embedded else _READERS[source.layout](source, paths)
    return {split: {"images": images, "labels": labels} for split, (images, labels) in arrays.items()}


def _provenance(source: Source, found: Mapping[str, tuple[Path, str]]) -> list[dict[str, Any]]:
    if source.embedded:
        return [{"path": "sklearn.datasets.load_digits", "from": "scikit-learn"}]
    return [
        {
            "path": file.path,
            "from": found[file.path][1],
            "sha256": file.sha256,
            "md5": file.md5,
            "content_sha256": file.content_sha256,
        }
        for file in source.files
    ]


def _forget(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    with contextlib.suppress(OSError):
        partial.parent.rmdir()


def parser() -> argparse.ArgumentParser:
    """Return the command line of this step."""
    command = argparse.ArgumentParser(prog="python -m redoubt.steps.download", description=__doc__.splitlines()[0])
    asked = command.add_mutually_exclusive_group(required=True)
    asked.add_argument("--dataset", choices=sources.SOURCES, help="what to fetch")
    asked.add_argument("--pictures", help="a folder of yours, as JSON: its dataset, path and shape")
    command.add_argument("--folder", required=True, type=Path, help="where to publish it")
    command.add_argument(
        "--mirror",
        action="append",
        default=[],
        help="directory, http(s) address or 'official'; repeat for several, tried in order; "
        f"default: ${sources.ENVIRONMENT}, else official",
    )
    command.add_argument("--imagenet", type=Path, help="your ImageNet folder, with train/ and val/")
    command.add_argument("--partial", type=Path, help="where interrupted downloads wait to be resumed")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, publish, and print how many images there are."""
    options = parser().parse_args(argv)
    mirrors = options.mirror or sources.mirrors([], os.environ)
    if options.pictures:
        asked = parse_json(options.pictures, "--pictures")
        folder = sources.local(asked["path"])
        source = sources.pictures(asked["dataset"], asked["path"], tuple(asked["shape"]))
    else:
        source, folder = sources.source(options.dataset), None
    counts = run(source, options.folder, mirrors, options.imagenet, options.partial, folder)
    print(f"{source.name}: {counts['train']} train and {counts['test']} test images in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
