"""Numba where it is installed: compiled at first use, and kept for later jobs.

Machine code is kept below the user's cache (`XDG_CACHE_HOME`, or `~/.cache`), in a folder named by the text of the
kernels: copies of the sources share it, and checkouts may be read-only. Numba keys its files by the kind of processor,
so that different nodes can share a home. Where nothing can be written each process compiles for itself.

Kernels run without the interpreter's lock, in threads that end with the call (`shared`): a process that was forked
waits for none of its parent's.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch


@cache
def available() -> bool:
    """Return whether numba can be imported."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def compiled(*relaxed: str) -> Callable[[Callable], Callable]:
    """Return a decorator that compiles a function for every kind of arguments when it is first called with it.

    Args:
        relaxed: what the compiler may assume of floating point, in LLVM's words, besides fused multiplications.
    """
    import numba

    def decorate(function: Callable) -> Callable:
        made = numba.njit(nogil=True, fastmath={"contract", *relaxed})(function)
        with contextlib.suppress(AttributeError, RuntimeError):  # another version of numba, or no folder to write to
            vars(made)["_cache"] = _kept()(function)
        return made

    return decorate


def folder(file: str) -> Path:
    """Return where the machine code of a source file is kept: it depends on all kernels, and on how they are compiled.

    Kernels call one another across files.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    sources = {Path(file), *Path(__file__).parent.glob("*_kernels.py"), Path(__file__)}
    text = b"".join(source.read_bytes() for source in sorted(sources))
    return Path(base, "redoubt", "kernels", hashlib.sha256(text).hexdigest()[:16])


@cache
def _kept() -> type:
    """Return numba's cache of a function, in our folder; a full disk or a broken file costs time and no job."""
    from numba.core import caching

    class Locator(caching.UserWideCacheLocator):
        def __init__(self, function: Any, file: str) -> None:
            super().__init__(function, file)
            self._cache_path = str(folder(file))

    class Implementation(caching.CompileResultCacheImpl):
        _locator_classes = [Locator]

    class Kept(caching.FunctionCache):
        _impl_class = Implementation

        def load_overload(self, *arguments: Any) -> Any:
            try:
                return super().load_overload(*arguments)
            except (OSError, EOFError, pickle.UnpicklingError):
                return None

        def save_overload(self, *arguments: Any) -> None:
            try:
                super().save_overload(*arguments)
            except (OSError, EOFError, pickle.UnpicklingError):
                return

    return Kept


def shared(work: Callable[[int, int], object], total: int, parts: int = 1) -> None:
    """Have `work(first, last)` done for 0 to `total`, by as many threads as torch uses, `parts` pieces for each."""
    threads = torch.get_num_threads()
    if threads == 1 or total < threads:
        work(0, total)
        return
    edges = [total * number // (threads * parts) for number in range(threads * parts + 1)]
    done(work, list(itertools.pairwise(edges)))


def done(work: Callable[..., object], pieces: Sequence[tuple]) -> None:
    """Have `work(*piece)` done for each piece, by as many threads as torch uses."""
    if torch.get_num_threads() == 1 or len(pieces) == 1:
        for piece in pieces:
            work(*piece)
        return
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(lambda piece: work(*piece), pieces))
