"""CSV files as they are spelt: every value is text, and a broken file is one line of an error."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import RedoubtError


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
