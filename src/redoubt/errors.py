"""Errors that a user can mend, told in one line."""

import contextlib
import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


class RedoubtError(Exception):
    """Bad input or a failed step; its message says what, where and how to mend it."""


def shortened(names: Sequence[str], most: int) -> str:
    """Return names for a line: the first ones, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


_STORAGE = {
    errno.ENOSPC: "no space is left on the disk; make room",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EFBIG: "the file would be larger than is allowed; raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only; make it writable",
    errno.EACCES: "permission is denied; change the owner or the mode",
    errno.EPERM: "permission is denied; change the owner or the mode",
    errno.EIO: "the disk reports an error; look after it",
}


def storage_error(error: OSError, path: Path | str | None = None) -> RedoubtError | None:
    """Return in a user's words a failure of the disk, quota or permissions under `path`; None of any other failure."""
    if error.errno not in _STORAGE:
        return None
    return RedoubtError(f"{path or error.filename or 'output'}: {_STORAGE[error.errno]}, then run this again")


@contextlib.contextmanager
def storing(path: Path | str) -> Iterator[None]:
    """Turn a failure of the disk, quota or permissions into a `RedoubtError` that names `path`."""
    try:
        yield
    except OSError as error:
        if (told := storage_error(error, path)) is None:
            raise
        raise told from None


def cli(main: Callable[[Sequence[str] | None], int]) -> int:
    """Run a step's `main`; turn a `RedoubtError` or a failure of the disk into one line on stderr and exit code 2."""
    try:
        code = main(None)
        sys.stdout.flush()  # a log that cannot be written fails here, not while Python ends
        return code
    except RedoubtError as error:
        problem = error
    except OSError as error:
        if (problem := storage_error(error)) is None:
            raise
    with contextlib.suppress(OSError):  # the log may lie on the disk that is full
        print("error: " + " ".join(str(problem).split()), file=sys.stderr)
    return 2
