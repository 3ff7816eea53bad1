"""Check that a file has the size and digests that it should have."""

import hashlib
from pathlib import Path

from redoubt.data.archives import gunzipped
from redoubt.data.sources import SourceFile
from redoubt.errors import RedoubtError
from redoubt.files import file_digest

_HTML = (b"<!doctype", b"<html", b"<head", b"<?xml")


def check(path: Path, file: SourceFile) -> None:
    """Check size and digests of a file, or of its decompressed content where only those are known.

    Args:
        path: the file.
        file: what it should be; at least one of its digests is set.

    Raises:
        RedoubtError: it is a different file, a web page or damaged.
    """
    with path.open("rb") as stream:
        if stream.read(64).lstrip().lower().startswith(_HTML):
            raise RedoubtError("sent an HTML page instead of the file (a log-in, a warning or an error page?)")
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise RedoubtError(f"{'truncated' if size < file.size else 'too long'}: {size} bytes; expected {file.size}")
    for name, expected in (("sha256", file.sha256), ("md5", file.md5)):
        if expected is not None:
            _compare(name, file_digest(path, name), expected)
    if file.content_sha256 is not None:
        _check_content(path, file, file.content_sha256)


def _check_content(path: Path, file: SourceFile, expected: str) -> None:
    digest, size = hashlib.sha256(), 0
    # Without a known size, gzip's maximum compression ratio bounds the content.
    limit = file.content_size if file.content_size is not None else 1100 * path.stat().st_size
    for chunk in gunzipped(path, limit):
        digest.update(chunk)
        size += len(chunk)
    if file.content_size is not None and size != file.content_size:
        raise RedoubtError(f"its content has {size} bytes; expected {file.content_size}")
    _compare("sha256 of the content", digest.hexdigest(), expected)


def _compare(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise RedoubtError(f"wrong {name}: {found[:12]}... instead of {expected[:12]}...")
