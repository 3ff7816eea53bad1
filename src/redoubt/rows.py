"""Finished rows of attacks, read back; no torch."""

from __future__ import annotations

import json
from pathlib import Path

from redoubt.errors import RedoubtError
from redoubt.lazily import lazy

pd = lazy("pandas")
pa = lazy("pyarrow")
pq = lazy("pyarrow.parquet")


def read_rows(path: Path | str) -> pd.DataFrame:
    """Return the rows of an attack with a column `model`; `frame.attrs["shape"]` is the shape (C, H, W) of an image.

    Raises:
        RedoubtError: the file is missing or was not written by an attack.
    """
    try:
        table = pq.read_table(path)
        frame = table.to_pandas()
        frame["model"] = table.schema.metadata[b"model"].decode()
        frame.attrs["shape"] = json.loads(table.schema.metadata[b"shape"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise RedoubtError(f"{path}: no readable rows of an attack ({error}); run the attack again") from None
    return frame
