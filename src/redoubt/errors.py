"""Errors the user can fix, reported on one line."""

import contextlib
import errno
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


class RedoubtError(Exception):
    """Bad input or a failed step; its message says what is wrong, where, and how to fix it."""


def shortened(names: Sequence[str], most: int) -> str:
    """Return the first `most` names joined by commas, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


_STORAGE = {
    errno.ENOSPC: "no space is left on the disk; make room",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EFBIG: "the file would be larger than is allowed; raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only; make it writable",
    errno.EACCES: "permission is denied; change the owner or the mode",
    errno.EPERM: "permission is denied; change the owner or the mode",
    errno.EIO: "the disk reports an I/O error; check it",
}


def storage_error(error: OSError, path: Path | str | None = None) -> RedoubtError | None:
    """Return a user-facing error for a disk, quota or permission failure at `path`, or None for anything else."""
    if error.errno not in _STORAGE:
        return None
    return RedoubtError(f"{path or error.filename or 'output'}: {_STORAGE[error.errno]}, then run this again")


@contextlib.contextmanager
def storing(path: Path | str) -> Iterator[None]:
    """Turn a disk, quota or permission failure into a `RedoubtError` that names `path`."""
    try:
        yield
    except OSError as error:
        if (problem := storage_error(error, path)) is None:
            raise
        raise problem from None


def cli(main: Callable[[Sequence[str] | None], int]) -> int:
    """Run a step's `main`; turn a `RedoubtError` or a disk failure into one line on stderr and exit code 2.

    What the locale's encoding lacks is printed as an escape, so that no locale makes a step fail.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main(None)
        sys.stdout.flush()  # a log that cannot be written fails here, not when Python exits
        return code
    except RedoubtError as error:
        problem = error
    except OSError as error:
        if (failure := storage_error(error)) is None:
            raise
        problem = failure
    with contextlib.suppress(OSError):  # the log may be on the full disk
        print("error: " + " ".join(str(problem).split()), file=sys.stderr)
    return 2
