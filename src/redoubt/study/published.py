"""The numbers that papers print: `config/published/<study>.csv`, with their digits."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from redoubt.errors import RedoubtError

ROOT = Path(__file__).resolve().parents[3]
"""Where the code lies, and the numbers that a run has started with."""
COLUMNS = ("artifact", "row", "column", "value", "unit")
UNITS = {unit: Decimal(1) for unit in ("plain", "ratio", "0-255", "epsilon")} | {"percent": Decimal("0.01")}
"""What a printed number is multiplied by, by its unit."""


@dataclass(frozen=True)
class Published:
    """A printed number, half a unit of its last digit, and its standard deviation where one is printed."""

    value: float
    half_unit: float
    std: float | None = None


def read_published(path: Path | str, root: Path = ROOT) -> dict[tuple[str, str, str], Published]:
    """Return a study's printed numbers by artifact, row and column.

    The file keeps the printed digits, so that the precision is known; percents become fractions. A column `std` may
    hold printed standard deviations, in the same unit. A relative path
    starts at `root`, where the code lies by default, so that a run reads the numbers that it has started with.

    Raises:
        RedoubtError: a column is missing, a number or a unit is not known, or a cell is given twice.
    """
    rows = csv.DictReader(io.StringIO(_text(path, root)), restval="")
    if missing := [name for name in COLUMNS if name not in (rows.fieldnames or [])]:
        raise RedoubtError(f"{path}: column {missing[0]!r} is missing")
    result: dict[tuple[str, str, str], Published] = {}
    for row in rows:
        where = f"{path}: line {rows.line_num}"
        key = (row["artifact"], row["row"], row["column"])
        if row["unit"] not in UNITS:
            raise RedoubtError(f"{where}: unit {row['unit']!r} is not one of {', '.join(UNITS)}")
        if key in result:
            raise RedoubtError(f"{where}: {', '.join(key)} is given twice")
        number = _number(row["value"], UNITS[row["unit"]], where)
        if printed := row.get("std"):
            number = replace(number, std=_number(printed, UNITS[row["unit"]], f"{where}: std").value)
        result[key] = number
    return result


def _text(path: Path | str, root: Path) -> str:
    try:
        return (root / path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RedoubtError(f"{path}: not UTF-8: {error}; save it as UTF-8") from None
    except OSError as error:
        raise RedoubtError(f"{path}: not readable ({error.strerror})") from None


def _number(text: str, scale: Decimal, where: str) -> Published:
    try:
        digits = Decimal(text)
    except ArithmeticError:
        digits = Decimal("NaN")
    exponent = digits.as_tuple().exponent
    if not isinstance(exponent, int):  # it is a letter where the number is not finite
        raise RedoubtError(f"{where}: {text!r} is not a number")
    return Published(float(digits * scale), float(Decimal(5).scaleb(exponent - 1) * scale))
