"""Atomic writes: files are written under a temporary name in the same folder, then renamed.

A temporary file is locked while its writer runs, so a temporary file that can be locked was left behind by a killed
process; the next writer of the same file removes it.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError, storing


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it on success, remove it on failure.

    Raises:
        RedoubtError: the disk is full, read-only or not writable for this user; the message names `path`.
    """
    path = Path(path)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, temporary = _locked(path)
        try:
            yield temporary
            temporary.chmod(0o644)
            os.fsync(handle)
            temporary.replace(path)
        finally:
            os.close(handle)
            temporary.unlink(missing_ok=True)


def _locked(path: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        with contextlib.suppress(OSError):  # without locks on this file system, nothing is removed either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another writer removed it as abandoned before it was locked


def _remove_abandoned(path: Path) -> None:
    for old in path.parent.glob(f".{glob.escape(path.name)}.????????{glob.escape(path.suffix)}"):
        with contextlib.suppress(OSError), old.open("rb+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            old.unlink()


def file_digest(path: Path, name: str = "sha256") -> str:
    """Return the digest of a file in hex; the file is read in chunks.

    Args:
        path: the file.
        name: `sha256`, or `md5` where others publish nothing else (MD5 gives no protection against an attacker).
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(name, usedforsecurity=name != "md5")).hexdigest()


def write_all(contents: Mapping[Path | str, str | bytes]) -> None:
    """Write several files, text as UTF-8, either all or none; the last one is renamed last."""
    with contextlib.ExitStack() as stack:
        temporary = {path: stack.enter_context(atomic_path(path)) for path in reversed(list(contents))}
        for path, content in contents.items():
            with storing(path):
                temporary[path].write_bytes(content.encode() if isinstance(content, str) else content)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    write_all({path: text})


def canonical_json(value: Any) -> str:
    """Return canonical JSON of `value`: sorted keys, no spaces, no NaN, ASCII only (safe in any locale).

    An entry within it is written as it dumps itself.
    """
    options: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    return json.dumps(value, default=lambda entry: entry.dump(), **options)


def entry_digest(entry: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of an entry's canonical JSON."""
    return hashlib.sha256(canonical_json(entry).encode()).hexdigest()[:16]


def json_text(value: Any) -> str:
    """Return `value` as indented JSON with sorted keys, for a file."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json_text(value))


class _Entry(dict):
    """A dict that raises a one-line `RedoubtError` for a missing key."""

    def __init__(self, pairs: Any, what: str, remedy: str) -> None:
        super().__init__(pairs)
        self.what, self.remedy = what, remedy

    def __missing__(self, key: str) -> Any:
        raise RedoubtError(f"{self.what}: no key {key!r}{self.remedy}")


def parse_json(text: str, what: str, remedy: str = "") -> Any:
    """Return the JSON object in `text` as a dict whose missing keys raise a `RedoubtError`; errors call it `what`."""
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: _Entry(pairs, what, remedy))
    except (ValueError, RecursionError) as error:
        raise RedoubtError(f"{what}: not JSON: {error}{remedy}") from None
    if not isinstance(value, dict):
        raise RedoubtError(f"{what}: expected a mapping of keys, got {type(value).__name__}{remedy}")
    return value


def read_json(path: Path | str) -> Any:
    """Return the JSON object in a file as a dict whose missing keys raise a `RedoubtError`.

    Raises:
        RedoubtError: the file is missing or holds no JSON object; the message names it.
    """
    remedy = "; delete it and run its step again"
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"), str(path), remedy)
    except FileNotFoundError:
        raise RedoubtError(f"{path}: no such file; run the step that makes it") from None
    except UnicodeDecodeError as error:
        raise RedoubtError(f"{path}: not UTF-8: {error}{remedy}") from None


def tensor_digest(tensors: Mapping[str, Any], *texts: str) -> str:
    """Return the SHA-256 of named arrays (names, types and shapes included) and of some texts."""
    digest = hashlib.sha256("".join(f"{text}\n" for text in texts).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
