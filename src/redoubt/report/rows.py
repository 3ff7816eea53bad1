"""The rows behind the numbers of the page, small enough for it: by image what an attack did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from redoubt.lazily import np, pd
from redoubt.report.views import packed, too_large
from redoubt.rows import read_rows

DIGITS = 6
"""Of the numbers in the rows that the page holds; the files have all."""
MAX_ROWS = 1_500_000
"""Bytes of all rows that the page holds, as they stand in it."""


def asked(origins: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return by "model/attack" which rows of it are behind numbers: values of columns, as `made_of` has them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for origin in origins:
        for attack, where in ((origin["attack"], origin["where"]), (origin["strong"], origin["strong_where"])):
            if attack is not None:
                found.setdefault(f"{origin['model']}/{attack}", []).append(where)
    return found


def held(
    wanted: Mapping[str, list[dict[str, Any]]], runs: Mapping[str, Any], results: Path, most: int
) -> tuple[dict[str, str], list[str]]:
    """Return the rows that the page holds, packed columns by "model/attack", and what is too large for it.

    Rows of runs whose files are not all there are in neither.

    Args:
        wanted: what `asked` returns.
        runs: by "model/attack", with `files` from the root of the repository.
        results: folder of the scale's results.
        most: bytes of all rows together.

    Raises:
        RedoubtError: a file is broken.
    """
    texts: dict[str, str] = {}
    for key, places in wanted.items():
        files = [results.joinpath(*Path(file).parts[2:]) for file in runs[key]["files"]] if key in runs else []
        if files and all(file.is_file() for file in files):
            texts[key] = packed(columns(files, places))
    left_out = too_large({key: len(text) for key, text in texts.items()}, most)
    return {key: text for key, text in texts.items() if key not in left_out}, sorted(left_out)


def columns(files: Sequence[Path], places: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Return the columns of the rows of an attack on a model that are at one of some places, arrays left out.

    Args:
        files: of the attack's rows, one for each seed.
        places: values of columns, as `redoubt.rows.picked` takes them.
    """
    frames = [read_rows(file).drop(columns="model") for file in files]
    for frame, file in zip(frames, files, strict=True):
        frame.insert(0, "seed", int(file.parent.name.removeprefix("seed-")))
    rows = pd.concat(frames, ignore_index=True)
    taken = np.zeros(len(rows), dtype=bool)
    for place in places:
        at = np.ones(len(rows), dtype=bool)
        for name, value in place.items():
            at &= rows[name] == value if name in rows else False
        taken |= at
    plain = {str(name): _plain(rows[name][taken]) for name in rows}
    return [(name, values) for name, values in plain.items() if values is not None]


def _plain(values: pd.Series) -> list[Any] | None:
    """Return a column as JSON data, empty values as None, infinite ones as text; None for a column of arrays."""
    if values.dtype.kind == "f":
        rounded = [f"{value:.{DIGITS}g}" for value in values]
        return [None if text == "nan" else text if "inf" in text else float(text) for text in rounded]
    if any(isinstance(value, np.ndarray) for value in values):
        return None
    return [None if pd.isna(value) else value for value in values.tolist()]
