"""One file from several mirrors: verified, resumed, and refused in one line; loopback only."""

import errno
import gzip
import hashlib
import http.server
import json
import os
import threading
from pathlib import Path
from unittest import mock

import pytest

from redoubt.data import fetch as module
from redoubt.data import verify
from redoubt.data.fetch import fetch
from redoubt.data.sources import SourceFile
from redoubt.errors import RedoubtError

CONTENT = bytes(range(256)) * 4000
NAME = "mnist/train.gz"
HTML = b"\n<!DOCTYPE html><html>please log in</html>"


def described(content=CONTENT, **changes):
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), **changes}
    return SourceFile(NAME, **facts)


class Mirror(http.server.ThreadingHTTPServer):
    """A loopback server; its attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/{NAME}": CONTENT}
        self.requests = []
        self.ranges, self.headers, self.partial_headers = True, {"ETag": '"one"'}, {}
        self.cuts, self.redirect, self.length = [], None, True
        self.repeat, self.sent = 1, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that hangs up early is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers)
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            return self.end_headers()
        if self.path not in server.files:
            return self.send_error(404)
        content, start = server.files[self.path], self._start()
        if start is not None and start >= len(content):
            self.send_response(416)
            return self.end_headers()
        self.send_response(200 if start is None else 206)
        for name, value in {**server.headers, **({} if start is None else server.partial_headers)}.items():
            self.send_header(name, value)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start or 0 :]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for _ in range(server.repeat):
            self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)
            server.sent += 1

    def _start(self):
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        current = (self.server.headers.get("ETag"), self.server.headers.get("Last-Modified"), None)
        if not self.server.ranges or not wanted or condition not in current:
            return None
        return int(wanted.removeprefix("bytes=").rstrip("-"))


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def refused(file, mirrors, cache):
    with pytest.raises(RedoubtError) as caught:
        fetch(file, mirrors, cache)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def folder_with(tmp_path, content, name="mirror"):
    path = tmp_path / name / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return str(tmp_path / name)


def leave_partial(mirror, cache, length=300_000):
    """Interrupt a download after `length` bytes, so that the cache holds that much."""
    mirror.cuts = [length, 0]
    message = refused(described(), [mirror.url], cache)
    assert f"the connection ended after {length} of {len(CONTENT)} bytes" in message
    assert (cache / "train.gz.part").read_bytes() == CONTENT[:length]
    mirror.requests.clear()


def test_a_folder_is_read_in_place(tmp_path, cache):
    folder = folder_with(tmp_path, CONTENT)
    path, where = fetch(described(), [folder], cache)
    assert path == Path(folder) / NAME and where == str(path)
    assert not cache.exists()


def test_a_download_gives_the_same_bytes(mirror, cache):
    path, where = fetch(described(), [mirror.url + "/"], cache)
    assert path.read_bytes() == CONTENT and path.parent == cache
    assert where == f"{mirror.url}/{NAME}"


def test_a_download_without_announced_length_gives_the_same_bytes(mirror, cache):
    mirror.length = False
    assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT


def test_official_addresses_are_used_where_the_word_stands(tmp_path, mirror, cache):
    official = described(urls=(f"{mirror.url}/absent", f"{mirror.url}/{NAME}"))
    assert fetch(official, [str(tmp_path), "official"], cache)[1] == f"{mirror.url}/{NAME}"
    folder = folder_with(tmp_path, CONTENT)
    mirror.requests.clear()
    assert fetch(official, [folder, "official"], cache)[1] == f"{folder}/{NAME}"
    assert mirror.requests == []
    assert "official: it has no official source" in refused(described(), ["official"], cache)


def test_only_the_mirrors_are_asked_without_the_word_official(tmp_path, mirror, cache):
    refused(described(urls=(f"{mirror.url}/{NAME}",)), [str(tmp_path)], cache)
    assert mirror.requests == []


BAD = {
    "wrong sha256": (described(bytes([1]) + CONTENT[1:]), CONTENT, "wrong sha256"),
    "wrong md5": (described(md5="0" * 32), CONTENT, "wrong md5"),
    "html": (described(), HTML, "HTML page"),
    "short": (described(), CONTENT[:-1], "truncated: 1023999 bytes; expected 1024000"),
    "long": (described(), CONTENT + b"x", "expected 1024000"),
    "empty": (described(), b"", "truncated: 0 bytes"),
}


@pytest.mark.parametrize("server", [False, True], ids=["folder", "server"])
@pytest.mark.parametrize(("file", "content", "reason"), BAD.values(), ids=BAD)
def test_wrong_bytes_are_refused_and_leave_nothing(tmp_path, mirror, cache, server, file, content, reason):
    folder = folder_with(tmp_path, content)
    mirror.files[f"/{NAME}"] = content
    place = mirror.url if server else folder
    message = refused(file, [place], cache)
    assert reason in message and message.startswith(f"{NAME}: no mirror delivers it; {place}/{NAME}: ")
    assert not cache.exists()
    assert (Path(folder) / NAME).read_bytes() == content


@pytest.mark.parametrize("server", [False, True], ids=["folder", "server"])
def test_the_next_mirror_is_tried_after_a_bad_one(tmp_path, mirror, cache, server):
    mirror.files["/bad/" + NAME] = b"x" + CONTENT[1:]
    bad = f"{mirror.url}/bad" if server else folder_with(tmp_path, HTML, "bad")
    good = folder_with(tmp_path, CONTENT, "good")
    assert fetch(described(), [bad, f"{mirror.url}/absent", good], cache)[1] == f"{good}/{NAME}"
    assert fetch(described(), [bad, mirror.url], cache)[0].read_bytes() == CONTENT


def test_when_all_mirrors_fail_one_line_names_each_with_its_reason(tmp_path, mirror, cache, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 2)
    down = Mirror()
    down.server_close()
    html = folder_with(tmp_path, HTML)
    message = refused(described(), [str(tmp_path), down.url, f"{mirror.url}/absent", html, "https://"], cache)
    for reason in (
        f"{tmp_path}/{NAME}: no such file",
        f"{down.url}/{NAME}: no connection (",
        f"{mirror.url}/absent/{NAME}: HTTP 404 Not Found",
        f"{html}/{NAME}: sent an HTML page",
    ):
        assert reason in message
    assert message.count(NAME) == 6


def test_a_silent_mirror_is_given_up(mirror, cache, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    silent = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{silent.server_address[1]}"
    try:
        assert fetch(described(), [address, mirror.url], cache)[1] == f"{mirror.url}/{NAME}"
    finally:
        silent.server_close()


def zipped(content):
    facts = {"content_sha256": hashlib.sha256(content).hexdigest(), "content_size": len(content)}
    return SourceFile(NAME, **facts)


def test_gzip_files_are_known_by_their_content(tmp_path):
    for level in (1, 9):
        path = Path(folder_with(tmp_path, gzip.compress(CONTENT, level), f"level-{level}")) / NAME
        verify.check(path, zipped(CONTENT))


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (gzip.compress(CONTENT)[:-9], "truncated"),
        (gzip.compress(CONTENT)[:20], "truncated"),
        (gzip.compress(CONTENT)[:-8] + bytes(8), "damaged"),
        (gzip.compress(b"x" + CONTENT[1:]), "wrong sha256 of the content"),
        (gzip.compress(CONTENT[1:]), "its content has 1023999 bytes; expected 1024000"),
        (gzip.compress(CONTENT + bytes(10**6)), "holds more than the expected 1024000 bytes"),
        (CONTENT, "damaged"),
    ],
    ids=["no-tail", "head-only", "wrong-check", "other-content", "short", "long", "not-gzip"],
)
def test_damaged_gzip_is_refused(tmp_path, mirror, cache, stored, reason):
    mirror.files[f"/{NAME}"] = stored
    folder = folder_with(tmp_path, stored)
    message = refused(zipped(CONTENT), [folder, mirror.url], cache)
    assert message.count(f": {reason}") == 2
    assert not cache.exists()


def test_an_endless_answer_is_cut_off(mirror, cache):
    mirror.length, mirror.repeat = False, 64
    assert "sends more than the expected 1024000 bytes" in refused(described(), [mirror.url], cache)
    assert not cache.exists()
    # What the sockets hold on the way is beyond control; the rest must not have been asked for.
    assert mirror.sent < 32


def test_an_interrupted_download_is_resumed_within_one_run(mirror, cache):
    mirror.cuts = [300_000, 200_000]
    assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT
    assert [headers.get("Range") for headers in mirror.requests] == [None, "bytes=300000-", "bytes=500000-"]


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        ({"ETag": '"one"'}, '"one"'),
        ({"Last-Modified": "Sat, 01 Jan 2000 00:00:00 GMT"}, "Sat, 01 Jan 2000 00:00:00 GMT"),
        ({"ETag": 'W/"one"'}, None),
        ({}, None),
    ],
)
def test_a_partial_file_is_resumed_by_the_next_run(mirror, cache, headers, condition):
    mirror.headers = headers
    leave_partial(mirror, cache)
    assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT
    assert [(sent["Range"], sent["If-Range"]) for sent in mirror.requests] == [("bytes=300000-", condition)]


def test_a_complete_download_is_not_asked_for_again(mirror, cache):
    fetch(described(), [mirror.url], cache)
    mirror.requests.clear()
    assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT
    assert mirror.requests == []


OTHER = bytes(reversed(CONTENT))


@pytest.mark.parametrize("honours_condition", [True, False])
@pytest.mark.parametrize("headers", [{"ETag": '"two"'}, {"Last-Modified": "Sun, 02 Jan 2000 00:00:00 GMT"}])
def test_a_changed_file_is_fetched_from_the_start(mirror, cache, headers, honours_condition):
    mirror.headers = {name: "Sat, 01 Jan 2000 00:00:00 GMT" if "-" in name else '"one"' for name in headers}
    leave_partial(mirror, cache)
    mirror.files[f"/{NAME}"] = OTHER
    if honours_condition:
        mirror.headers = headers
    else:
        mirror.partial_headers = headers
    assert fetch(described(OTHER), [mirror.url], cache)[0].read_bytes() == OTHER
    # A server that ignores If-Range answers with a piece of another version: then all of it is asked for.
    assert [bool(sent["Range"]) for sent in mirror.requests] == ([True] if honours_condition else [True, False])


def test_a_file_of_another_size_is_fetched_from_the_start(mirror, cache):
    mirror.headers = {}
    leave_partial(mirror, cache)
    mirror.files[f"/{NAME}"] = CONTENT[1:]
    assert fetch(described(CONTENT[1:]), [mirror.url], cache)[0].read_bytes() == CONTENT[1:]


def test_a_server_without_ranges_sends_everything_again(mirror, cache):
    leave_partial(mirror, cache)
    mirror.ranges = False
    assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT


def test_another_piece_than_asked_for_is_not_appended(mirror, cache):
    leave_partial(mirror, cache)
    mirror.partial_headers = {"Content-Range": f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"}
    assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT
    assert [sent["Range"] for sent in mirror.requests] == ["bytes=300000-", None]


def test_a_partial_file_longer_than_the_file_starts_over(mirror, cache):
    leave_partial(mirror, cache)
    (cache / "train.gz.part").write_bytes(CONTENT + b"more")
    assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT


def test_a_partial_file_of_another_mirror_or_unknown_origin_starts_over(mirror, cache):
    leave_partial(mirror, cache)
    mirror.files["/other/" + NAME] = CONTENT
    assert fetch(described(), [f"{mirror.url}/other"], cache)[0].read_bytes() == CONTENT
    assert mirror.requests[0]["Range"] is None
    for note in ("", "[]", "{", json.dumps({"url": "elsewhere"})):
        (cache / "train.gz.part").write_bytes(b"rubbish")
        (cache / "train.gz.part.json").write_text(note)
        assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT


def test_a_wrong_partial_file_is_removed_once_its_digest_is_known(mirror, cache):
    leave_partial(mirror, cache)
    (cache / "train.gz.part").write_bytes(bytes(300_000))
    assert "wrong sha256" in refused(described(), [mirror.url], cache)
    assert not cache.exists()
    assert fetch(described(), [mirror.url], cache)[0].read_bytes() == CONTENT


def test_a_full_disk_stops_the_search_in_one_line(tmp_path, mirror, cache, monkeypatch):
    good = folder_with(tmp_path, CONTENT)
    real = Path.open

    def full(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path, mode="r", *arguments, **options):
        stream = real(path, mode, *arguments, **options)
        return mock.MagicMock(wraps=stream, __enter__=lambda _: mock.Mock(write=full)) if mode == "ab" else stream

    monkeypatch.setattr(Path, "open", opened)
    message = refused(described(), [mirror.url, good], cache)
    assert message.startswith(f"{cache}: no space left") and "no mirror" not in message


def test_a_cache_that_cannot_be_written_is_told_in_one_line(tmp_path, mirror):
    blocked = tmp_path / "file"
    blocked.touch()
    assert str(blocked) in refused(described(), [mirror.url], blocked / "cache")


def test_redirects_are_followed_but_never_away_from_https(mirror, cache):
    other = Mirror()
    other.redirect = f"{mirror.url}/{NAME}"
    threading.Thread(target=other.handle_request, daemon=True).start()
    assert fetch(described(), [other.url], cache)[0].read_bytes() == CONTENT
    other.server_close()
    mirror.redirect = "ftp://127.0.0.1:1/x"
    assert "refused a redirect from http to ftp" in refused(described(), [mirror.url + "/x"], cache)
    mirror.redirect = "file:///etc/passwd"
    assert "file:///etc/passwd' is not allowed" in refused(described(), [mirror.url + "/x"], cache)


@pytest.mark.parametrize(("scheme", "refused_"), [("http", True), ("ftp", True), ("https", False)])
def test_a_redirect_from_https_stays_on_https(scheme, refused_):
    request = module.urllib.request.Request("https://host/a")
    arguments = (request, None, 302, "Found", {}, f"{scheme}://host/b")
    if refused_:
        with pytest.raises(module.urllib.error.URLError, match="refused a redirect from https to"):
            module._NoDowngrade().redirect_request(*arguments)
    else:
        assert module._NoDowngrade().redirect_request(*arguments).full_url == "https://host/b"


def test_the_bar_is_drawn_on_a_terminal_only(mirror, cache, capsys):
    fetch(described(), [mirror.url], cache)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
