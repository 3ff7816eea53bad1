"""Fetch one file of a dataset from the first mirror that delivers the right bytes.

A directory mirror is read in place. A download goes to `<name>.part` in a cache folder, with a note of its
source beside it; an interrupted one is resumed if the server still offers the same file.
"""

import contextlib
import errno
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from redoubt.data import verify
from redoubt.data.sources import OFFICIAL, SourceFile, is_url, local, tells
from redoubt.errors import RedoubtError, storage_error
from redoubt.progress import progress

TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 3
_CHUNK = 2**18


class Fatal(RedoubtError):
    """A failure of this machine, which no other mirror can fix."""


class _Dropped(RedoubtError):
    """The connection ended early; the bytes received so far are good."""


def fetch(source_file: SourceFile, mirrors: Sequence[str], cache_folder: Path | str) -> tuple[Path, str]:
    """Return a file whose digests are right, and the mirror that delivered it.

    Args:
        source_file: the file.
        mirrors: directories, http(s) addresses or `official`, tried in order.
        cache_folder: folder for downloads in progress.

    Returns:
        The verified file, in a directory mirror or in `cache_folder`, and the path or address it came from.

    Raises:
        RedoubtError: no mirror delivers it (one line names each and why), or this machine cannot store it.
    """
    cache = Path(cache_folder)
    reasons = []
    if OFFICIAL in mirrors and not source_file.urls:
        reasons.append(f"{OFFICIAL}: it has no official source")
    for place in _places(source_file, mirrors):
        try:
            if is_url(place):
                return _download(place, source_file, cache), place
            return _local(place, source_file), place
        except Fatal:
            raise
        except RedoubtError as error:
            reasons.append(f"{place}: {error}")
        finally:
            # An empty cache folder is removed.
            with contextlib.suppress(OSError):
                cache.rmdir()
    raise RedoubtError(f"{source_file.path}: no mirror delivers it; " + "; ".join(reasons))


def _places(file: SourceFile, mirrors: Sequence[str]) -> Iterator[str]:
    for mirror in mirrors:
        if mirror == OFFICIAL:
            yield from file.urls
        elif is_url(mirror):
            yield f"{mirror.rstrip('/')}/{urllib.parse.quote(file.path)}"
        else:
            yield str(local(mirror) / file.path)


def _local(place: str, file: SourceFile) -> Path:
    path = Path(place)
    if not tells(Path.is_file, path):
        raise RedoubtError("no such file")
    verify.check(path, file)
    return path


class _Part:
    """A partial download: its bytes, and a note of their address, version and size."""

    def __init__(self, cache: Path, file: SourceFile) -> None:
        name = Path(file.path).name
        self.path = cache / f"{name}.part"
        self._note = cache / f"{name}.part.json"

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def note(self, url: str) -> dict[str, Any]:
        """Return the note if it is about `url`, else an empty one."""
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(self._note.read_text(encoding="utf-8"))
            if isinstance(note, dict) and note.get("url") == url:
                return note
        return {}

    def start(self, note: dict[str, Any]) -> None:
        """Remove what was there and start again."""
        self.remove()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps(note), encoding="utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _download(url: str, file: SourceFile, cache: Path) -> Path:
    part = _Part(cache, file)
    with _storable(cache):
        for attempt in range(1, _ATTEMPTS + 1):
            before = part.size
            try:
                _transfer(url, file, part)
                break
            except _Dropped:
                if attempt == _ATTEMPTS or part.size <= before:
                    raise
        try:
            verify.check(part.path, file)
        except RedoubtError:
            part.remove()
            raise
    return part.path


@contextlib.contextmanager
def _storable(cache: Path) -> Iterator[None]:
    """Turn a failure to write into one line that stops the search: every mirror would fail the same way."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "no space left for the download; free some, or choose another --partial folder"
            raise Fatal(f"{cache}: {reason}") from None
        raise Fatal(str(storage_error(error, cache) or f"{cache}: {error.strerror or error}")) from None


def _transfer(url: str, file: SourceFile, part: _Part) -> None:
    """Bring `part` to its full size, resuming if the server allows that."""
    note = part.note(url)
    offset = part.size if note else 0
    if offset and offset == note["size"]:
        return
    with contextlib.closing(_open(url, _resuming(note, offset))) as response:
        fresh = _note(url, response, offset)
        if response.status != http.HTTPStatus.PARTIAL_CONTENT or not offset:
            offset = 0
        elif not (_same(note, fresh) and _continues(response, offset)):
            # Another file, or a different range than requested: start again from the beginning.
            part.remove()
            response.close()
            return _transfer(url, file, part)
        if not offset:
            part.start(fresh)
        bar = progress(None, Path(file.path).name, total=fresh["size"], initial=offset, unit="B", unit_scale=True)
        with bar:
            _receive(response, file, part, fresh["size"], bar.update)


def _receive(
    response: http.client.HTTPResponse, file: SourceFile, part: _Part, total: int | None, moved: Callable[[int], Any]
) -> None:
    size = part.size
    with part.path.open("ab") as stream:
        for chunk in _chunks(response):
            stream.write(chunk)
            size += len(chunk)
            moved(len(chunk))
            if file.limit is not None and size > file.limit:
                break
        stream.flush()
        os.fsync(stream.fileno())
    if file.limit is not None and size > file.limit:
        part.remove()
        raise RedoubtError(f"sends more than the expected {file.limit} bytes")
    if total is not None and size < total:
        raise _Dropped(f"the connection ended after {size} of {total} bytes")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    # A network failure is an OSError, too, and must not look like a full disk.
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except http.client.IncompleteRead as error:
        yield error.partial
    except (OSError, http.client.HTTPException):
        return


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "redoubt", **headers})
    try:
        return urllib.request.build_opener(_NoDowngrade).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if headers and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return _open(url, {})
            raise RedoubtError(f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise RedoubtError(f"no connection ({error.reason})") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RedoubtError(f"no usable answer ({error or type(error).__name__})") from None


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to an unencrypted protocol."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise urllib.error.URLError(f"refused a redirect from {req.type} to {scheme}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _resuming(note: dict[str, Any], offset: int) -> dict[str, str]:
    if not offset:
        return {}
    # If-Range: the server sends the rest of the same file, or all of the new one; weak tags do not count.
    strong = note["etag"] and not note["etag"].startswith("W/")
    version = note["etag"] if strong else note["modified"]
    return {"Range": f"bytes={offset}-"} | ({"If-Range": version} if version else {})


def _note(url: str, response: http.client.HTTPResponse, offset: int) -> dict[str, Any]:
    size = response.headers.get("Content-Length", "")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT and offset:
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return {
        "url": url,
        "etag": response.headers.get("ETag"),
        "modified": response.headers.get("Last-Modified"),
        "size": int(size) if size.isdecimal() else None,
    }


def _same(note: dict[str, Any], fresh: dict[str, Any]) -> bool:
    """Whether two answers are about the same version; the rest of a file may come without its dates."""
    return note["size"] == fresh["size"] and all(fresh[key] in (None, note[key]) for key in ("etag", "modified"))


def _continues(response: http.client.HTTPResponse, offset: int) -> bool:
    return re.match(rf"bytes {offset}-", response.headers.get("Content-Range", "")) is not None
