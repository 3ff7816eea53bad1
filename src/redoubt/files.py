"""Files that are whole or absent: everything is written beside its final name and renamed."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it on success, remove it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def canonical_json(value: Any) -> str:
    """Return the one JSON spelling of `value`: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


class _Entry(dict):
    """A mapping whose missing keys are told in one line."""

    def __missing__(self, key: str) -> Any:
        raise RedoubtError(f"the entry has no key {key!r}")


def parse_json(text: str, what: str) -> Any:
    """Return the mapping of JSON `text`, whose missing keys raise a `RedoubtError`; an error calls it `what`."""
    try:
        value = json.loads(text, object_pairs_hook=_Entry)
    except json.JSONDecodeError as error:
        raise RedoubtError(f"{what}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RedoubtError(f"{what}: expected a mapping of keys, got {type(value).__name__}")
    return value


def read_json(path: Path | str) -> Any:
    """Read JSON from `path`.

    Raises:
        RedoubtError: the file is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RedoubtError(f"{path}: no such file; run the step that makes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RedoubtError(f"{path}: not JSON ({error}); delete it and run its step again") from None
