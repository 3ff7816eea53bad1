"""Progress bars that are drawn on a terminal only."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(steps: Iterable | None, title: str, **options: Any) -> tqdm:
    """Return `steps` behind a progress bar called `title`, silent where standard error is not a terminal.

    Without `steps`, the bar is a context manager that is moved by its `update`.
    """
    return tqdm(steps, desc=title, disable=None, leave=False, mininterval=0.5, **options)
