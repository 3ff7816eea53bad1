"""Finished rows of attacks, read back; no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from redoubt.errors import RedoubtError
from redoubt.lazily import lazy

np = lazy("numpy")
pd = lazy("pandas")
pa = lazy("pyarrow")
pq = lazy("pyarrow.parquet")
safetensors = lazy("safetensors.numpy")

SHARED = "shared"  # key of the file's metadata under which tensors that all rows have in common are kept


def read_rows(path: Path | str) -> pd.DataFrame:
    """Return the rows of an attack with a column `model`.

    `frame.attrs` holds the `shape` (C, H, W) of an image and the names of the `classes`, none where they are not known.

    Raises:
        RedoubtError: the file is missing or was not written by an attack.
    """
    try:
        table = pq.read_table(path)
        frame = table.to_pandas()
        frame["model"] = table.schema.metadata[b"model"].decode()
        frame.attrs["shape"] = json.loads(table.schema.metadata[b"shape"])
        frame.attrs["classes"] = json.loads(table.schema.metadata.get(b"classes", b"[]"))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise RedoubtError(f"{path}: no readable rows of an attack ({error}); run the attack again") from None
    return frame


def read_sources(paths: Iterable[Path | str]) -> pd.DataFrame:
    """Return the rows of several attacks below each other, each with a column `model`.

    `frame.attrs["shared"]` holds by model the tensors that all rows of its attack have in common, where there are any.

    Raises:
        RedoubtError: a file is missing or was not written by an attack, or two hold such tensors of one model.
    """
    paths, shared = list(paths), {}
    frames = [read_rows(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if SHARED.encode() in pq.read_schema(path).metadata:
            if (model := frame["model"].iloc[0]) in shared:
                raise RedoubtError(f"{path}: a second universal attack on {model}; read one of them at a time")
            shared[model] = read_shared(path)
    result = pd.concat(frames, ignore_index=True)
    result.attrs = {"shared": shared}
    return result


def read_shared(path: Path | str) -> dict[str, np.ndarray]:
    """Return the tensors that all rows of an attack have in common, such as universal perturbations, by name.

    Raises:
        RedoubtError: the file is missing, was not written by an attack, or holds none.
    """
    try:
        found = safetensors.load(pq.read_schema(path).metadata[SHARED.encode()])  # in any order
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise RedoubtError(f"{path}: no tensors that all rows share ({error}); is it a universal attack?") from None
    return dict(sorted(found.items()))


def rho_of(name: str) -> float:
    """Return the relative radius of the universal perturbation that a file holds under `name`, such as rho-0.2."""
    return float(name.removeprefix("rho-"))
