"""CSV files: as they are spelt, every value a text, or as typed records; a broken file is one line of an error."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import RedoubtError
from redoubt.lazily import pd
from redoubt.records import Record, typed


def read_csv(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a CSV file, every value as it is spelt there.

    Raises:
        RedoubtError: the file is missing or broken, or one of `columns` is not in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows, names = list(reader), list(reader.fieldnames or [])
    except FileNotFoundError:
        raise RedoubtError(f"{path}: no such file; run the step that makes it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RedoubtError(f"{path}: not readable ({error}); delete it and run its step again") from None
    if missing := [name for name in columns if name not in names]:
        raise RedoubtError(f"{path}: column {missing[0]!r} is missing; delete it and run its step again")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise RedoubtError(
                f"{path}: row {number} does not have {len(names)} values; delete it and run its step again"
            )
    return rows


def required(kind: type[Record]) -> list[str]:
    """Return the columns that a file of such records must have; one of an older run may lack others."""
    return [name for name, field in kind.model_fields.items() if field.is_required()]


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """Return the rows of a CSV file as records, further columns left out; where a value is absent its default counts.

    Raises:
        RedoubtError: the file is missing or broken, or a value is not what its column asks for.
    """
    return [
        typed(kind, {name: row[name] for name in kind.model_fields if row.get(name)}, f"{path}: row {number}")
        for number, row in enumerate(read_csv(path, required(kind)), start=1)
    ]


def frame(kind: type[Record], rows: Sequence[Record]) -> pd.DataFrame:
    """Return records as the rows of a CSV file, a column for each field."""
    whole = {name: "Int64" for name, field in kind.model_fields.items() if field.annotation == (int | None)}
    return pd.DataFrame([row.model_dump() for row in rows], columns=list(kind.model_fields)).astype(whole)
