"""Rows of attacks: written once, read back; no torch.

Kept images are stored once: `picture` (float32), `clean` (uint8) and, where the attacked space is not that of images,
`image`. Readers are given `picture`, `clean_picture` and `image` as float32, whatever the file holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redoubt.errors import RedoubtError
from redoubt.files import atomic_path
from redoubt.lazily import lazy, np, pd

pq = lazy("pyarrow.parquet")
if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
safetensors = lazy("safetensors.numpy")

SEAL = "sha256"  # key of the digest of column names, types and metadata; the pages of rows have checksums
SHARED = "shared"  # key of the file's metadata under which tensors that all rows have in common are kept

DECIDED_BY = "decided_by"  # column of the id of the attack whose rows an image has, see `redoubt.attacks.worst_of`
CRAFTED_ON = "crafted_on"  # key of the id of the model that examples were crafted on, where it is another one
NONFINITE = "nonfinite_gradients"  # key of the share of gradients that were not finite, see `redoubt.attacks`


def write_rows(frame: pd.DataFrame, out: Path, facts: dict[str, str | bytes]) -> None:
    """Write rows as parquet with `facts` as the file's metadata, whole or not at all."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(facts)
    table = table.replace_schema_metadata({**table.schema.metadata, SEAL.encode(): seal(table.schema)})
    with atomic_path(out) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def seal(schema: pa.Schema) -> str:
    """Return the digest of a file's column names, their types and its metadata, itself left out."""
    columns = [(column.name, str(getattr(column.type, "value_type", column.type))) for column in schema]
    facts = sorted((key, value) for key, value in (schema.metadata or {}).items() if key != SEAL.encode())
    return hashlib.sha256(repr((columns, facts)).encode()).hexdigest()


def _sealed(schema: pa.Schema) -> dict[bytes, bytes]:
    """Return the metadata of a file, which are those that were written."""
    if schema.metadata[SEAL.encode()] != seal(schema).encode():
        raise ValueError("its columns or metadata have changed since they were written")
    return schema.metadata


@contextlib.contextmanager
def _readable(path: Path | str, problem: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, MemoryError, pa.ArrowException) as error:
        raise RedoubtError(f"{path}: {problem} ({error}); {remedy}") from None


def read_rows(path: Path | str) -> pd.DataFrame:
    """Return the rows of an attack with a column `model`.

    `frame.attrs` holds the `shape` (C, H, W) of an image, the names of the `classes`, none where they are not known,
    and the `attack`'s entry;
    `crafted_on`, the model that examples were crafted on where it is another one; and `nonfinite_gradients`, the share
    of gradients that were not finite, where the file has it.

    Raises:
        RedoubtError: the file is missing or was not written by an attack.
    """
    with _readable(path, "no readable rows of an attack", "delete it and run the attack again"):
        table = pq.read_table(path, page_checksum_verification=True)
        facts = _sealed(table.schema)
        frame = _with_images(table.to_pandas())
        frame["model"] = facts[b"model"].decode()
        frame.attrs["shape"] = json.loads(facts[b"shape"])
        frame.attrs["classes"] = json.loads(facts.get(b"classes", b"[]"))
        frame.attrs["attack"] = json.loads(facts.get(b"attack", b"{}"))
        if CRAFTED_ON.encode() in facts:
            frame.attrs[CRAFTED_ON] = facts[CRAFTED_ON.encode()].decode()
        if NONFINITE.encode() in facts:
            frame.attrs[NONFINITE] = json.loads(facts[NONFINITE.encode()])
    return frame


def _with_images(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the columns of kept images that the file does not store."""
    if "clean" in frame:
        clean = [np.asarray(image, dtype=np.float32) / np.float32(255.0) for image in frame.pop("clean")]
        frame["clean_picture"] = clean
        if "image" not in frame:
            frame["image"] = frame["picture"]
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


def picked(rows: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows whose columns have the given values.

    Raises:
        RedoubtError: no row has them.
    """
    for name, value in values.items():
        rows = rows[rows[name] == value] if name in rows else rows.iloc[:0]
    if rows.empty:
        raise RedoubtError(f"where: no attacked image has {dict(values)}; check the parameters of the attack")
    return rows


def read_shared(path: Path | str) -> dict[str, np.ndarray]:
    """Return the tensors that all rows of an attack have in common, such as universal perturbations, by name.

    Raises:
        RedoubtError: the file is missing, was not written by an attack, or holds none.
    """
    with _readable(path, "no tensors that all rows share", "is it a whole file of a universal attack?"):
        found = safetensors.load(_sealed(pq.read_schema(path))[SHARED.encode()])  # in any order
    return dict(sorted(found.items()))


def rho_of(name: str) -> float:
    """Return the relative radius of the universal perturbation that a file holds under `name`, such as rho-0.2."""
    return float(name.removeprefix("rho-"))
