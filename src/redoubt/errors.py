"""Errors that a user can mend, told in one line."""

import sys
from collections.abc import Callable, Sequence


class RedoubtError(Exception):
    """Bad input or a failed step; its message says what, where and how to mend it."""


def cli(main: Callable[[Sequence[str] | None], int]) -> int:
    """Run a step's `main`; turn a `RedoubtError` into one line on stderr and exit code 2."""
    try:
        return main(None)
    except RedoubtError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
