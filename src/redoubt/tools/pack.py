"""What another machine needs to go on with a scale, in one file: results, states, what Snakemake knows of them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from redoubt.errors import RedoubtError
from redoubt.files import atomic_path

BLOCK = 512
"""Bytes that tar rounds up to, and adds for each file."""


def parts(scale: str) -> dict[str, list[str]]:
    """Return the folders that are packed by what they are: first what is needed, then datasets, by their names."""
    datasets = sorted(str(path) for path in Path("results/data").glob("*") if path.is_dir())
    needed = ["results/.resume", f"results/{scale}", ".snakemake/metadata", "logs/benchmarks", f"logs/{scale}"]
    learned = [str(path) for path in Path("results/data").glob("*/preprocessing")]
    return {"results and states": needed + learned} | {dataset: [dataset] for dataset in datasets}


def _files(folders: list[str]) -> Iterator[Path]:
    """Yield the files below some folders, but for those that are being written."""
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path


def pack(out: Path, scale: str, limit: float) -> str:
    """Write the file, and return what is in it and what was left out for its size.

    Args:
        out: the file.
        scale: whose results are packed.
        limit: bytes that it may have; datasets that do not fit are left out.

    Raises:
        RedoubtError: the results and states alone are larger.
    """
    found = {name: list(dict.fromkeys(_files(folders))) for name, folders in parts(scale).items()}
    sizes = {name: sum(file.stat().st_size + 2 * BLOCK for file in files) for name, files in found.items()}
    (first, needed), *datasets = sizes.items()
    if needed > limit:
        big = sorted(found[first], key=lambda file: -file.stat().st_size)[0]
        raise RedoubtError(
            f"{out}: {first} take {needed / 1e9:.3g} GB, {limit / 1e9:.3g} are allowed; the largest file is {big}; "
            "raise --pack-size"
        )
    kept, left_out = [first], list[str]()
    for name, extra in sorted(datasets, key=lambda pair: pair[1]):
        fits = sum(sizes[each] for each in kept) + extra <= limit
        (kept if fits else left_out).append(name)
    files = dict.fromkeys(file for name in kept for file in found[name])
    with atomic_path(out) as temporary, tarfile.open(temporary, "w") as archive:
        for file in files:
            archive.add(file, recursive=False)
    lines = [
        f"{out}: {out.stat().st_size / 1e6:.3g} MB, {len(files)} files; unpack it in a checkout of the same commit"
    ]
    lines += [f"left out, and fetched again there: {', '.join(left_out)}"] if left_out else []
    return "\n".join(lines)
