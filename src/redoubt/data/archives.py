"""Untrusted compressed files: bounded in size, and never unpacked onto the disk.

Members of an archive are returned as bytes in memory. One unsafe member makes the whole archive refused.
"""

import contextlib
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from redoubt.errors import RedoubtError

_CHUNK = 2**20
_XZ_MAGIC = b"\xfd7zXZ\x00"


def gunzipped(path: Path, limit: int) -> Iterator[bytes]:
    """Yield the content of a gzip file in chunks.

    Args:
        path: the gzip file.
        limit: maximum number of content bytes.

    Raises:
        RedoubtError: it is not gzip, is cut short or damaged, or holds more than `limit` bytes.
    """
    with _reported(path), gzip.open(path) as stream:
        bounded = _Bounded(stream, limit, path)
        while chunk := bounded.read(_CHUNK):
            yield chunk


def members(path: Path, limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of every regular file in a .tar.gz or .tar.xz archive, in archive order.

    Args:
        path: the archive.
        limit: maximum number of bytes of the decompressed archive, headers included.

    Raises:
        RedoubtError: the archive is damaged or too large, or holds an absolute path, `..`, a link, a device,
            a sparse file or the same name twice.
    """
    seen: set[str] = set()
    with _reported(path), _decompressed(path) as stream:
        bounded = _Bounded(stream, limit, path)
        with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r|") as archive:  # which is read, and no more
            for member in archive:
                _refuse_unsafe(member, path)
                if member.isdir():
                    continue
                if member.name in seen:
                    raise RedoubtError(f"{path.name}: holds {member.name!r} twice; the archive is refused")
                seen.add(member.name)
                content = archive.extractfile(member)
                assert content is not None, "a plain file"
                yield member.name, content.read()
        # tarfile stops at the end mark; the checksum of the whole stream comes after it.
        while bounded.read(_CHUNK):
            pass


def _decompressed(path: Path) -> lzma.LZMAFile | gzip.GzipFile:
    with path.open("rb") as stream:
        return lzma.open(path) if stream.read(len(_XZ_MAGIC)) == _XZ_MAGIC else gzip.open(path)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Bounded:
    """A stream that raises an error beyond `limit` bytes, whatever a header says."""

    def __init__(self, stream: _Readable, limit: int, path: Path) -> None:
        self._stream, self._left, self._path, self._limit = stream, limit, path, limit

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise RedoubtError(f"{self._path.name}: holds more than the expected {self._limit} bytes; it is refused")
        return data


def _refuse_unsafe(member: tarfile.TarInfo, path: Path) -> None:
    name = PurePosixPath(member.name)
    problem = None
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        problem = "a path that leaves the archive"
    elif member.issym() or member.islnk():
        problem = "a link"
    elif member.issparse() or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
        problem = "neither a plain file nor a folder"
    if problem:
        raise RedoubtError(f"{path.name}: member {member.name!r} is {problem}; the archive is refused")


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn any error in a compressed file into a one-line `RedoubtError`."""
    try:
        yield
    except EOFError:
        raise RedoubtError(f"{path.name}: truncated: the compressed data end early") from None
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise RedoubtError(f"{path.name}: damaged: {error}") from None
    except OSError as error:
        raise RedoubtError(f"{path}: {error.strerror or error}") from None
