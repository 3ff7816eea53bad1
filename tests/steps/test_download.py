"""The download step on tiny synthetic archives; real MNIST where a mirror is at hand."""

import gzip
import hashlib
import http.server
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import redoubt
from redoubt.data import sources, store
from redoubt.data.sources import ENVIRONMENT, SOURCES, Source, SourceFile
from redoubt.errors import cli
from redoubt.steps import download

SHAPE, COUNTS = (1, 4, 3), {"train": 8, "test": 4}


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def arrays():
    generator = np.random.default_rng(0)
    found = {}
    for split, count in COUNTS.items():
        found[split] = (
            generator.integers(0, 256, (count, 4, 3), np.uint8),
            np.arange(count, dtype=np.uint8) % 2,
        )
    return found


def contents():
    return {
        f"tiny/{split}-{kind}.gz": idx(array)
        for split, pair in arrays().items()
        for kind, array in zip(("images", "labels"), pair, strict=True)
    }


@pytest.fixture
def tiny(monkeypatch):
    """A dataset of 12 images, known to the step as `tiny`."""
    files = tuple(
        SourceFile(path, content_sha256=hashlib.sha256(content).hexdigest(), content_size=len(content))
        for path, content in contents().items()
    )
    source = Source("tiny", "Tiny", SHAPE, ("a", "b"), COUNTS, "idx", files)
    monkeypatch.setitem(SOURCES, "tiny", source)
    return source


@pytest.fixture
def mirror(tmp_path):
    for path, content in contents().items():
        place = tmp_path / "mirror" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress(content))
    return tmp_path / "mirror"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results" / "data" / "tiny"


def command(folder, mirror, dataset="tiny"):
    return ["--dataset", dataset, "--folder", str(folder), "--mirror", str(mirror)]


def failure(capsys, arguments):
    """Run the step as the command line does; return its one line."""
    assert cli(lambda argv: download.main(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def everything(folder):
    """Return bytes and time of every file below a folder."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_dataset_is_published_with_its_provenance(tiny, mirror, folder, capsys):
    assert download.main(command(folder, mirror)) == 0
    assert capsys.readouterr().out == f"tiny: 8 train and 4 test images in {folder}\n"
    for split, (images, labels) in arrays().items():
        loaded = store.load(folder, split)
        assert np.array_equal(loaded.images().numpy()[:, 0], images) and loaded.labels.tolist() == labels.tolist()
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["name"], meta["shape"], meta["classes"]) == ("tiny", list(SHAPE), ["a", "b"])
    assert [entry["from"] for entry in meta["sources"]] == [str(mirror / file.path) for file in tiny.files]
    assert [entry["content_sha256"] for entry in meta["sources"]] == [file.content_sha256 for file in tiny.files]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_tensors_do_not_depend_on_the_mirror(tiny, mirror, folder, tmp_path):
    download.main(command(folder, mirror))
    for path, content in contents().items():
        (mirror / path).write_bytes(gzip.compress(content, 1))
    mirror.rename(tmp_path / "moved")
    download.main(command(tmp_path / "again", tmp_path / "moved"))
    for name in ("train.safetensors", "test.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_mirrors_come_from_the_environment_when_none_is_named(tiny, mirror, folder, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, f"{folder / 'absent'}{os.pathsep}{mirror}")
    assert download.main(["--dataset", "tiny", "--folder", str(folder)]) == 0


HARM = {
    "wrong digest": (lambda good: gzip.compress(b"\0" * len(gzip.decompress(good))), "wrong sha256"),
    "truncated gzip": (lambda good: good[:-6], "truncated"),
    "html": (lambda good: b"<html>not here</html>", "HTML page"),
    "missing": (lambda good: None, "no such file"),
}


@pytest.mark.parametrize(("harm", "reason"), HARM.values(), ids=HARM)
@pytest.mark.parametrize("before", [False, True], ids=["nothing before", "published before"])
def test_a_failing_download_changes_nothing(tiny, mirror, folder, capsys, harm, reason, before):
    if before:
        download.main(command(folder, mirror))
        capsys.readouterr()
    last = mirror / tiny.files[-1].path
    harmed = harm(last.read_bytes())
    last.unlink() if harmed is None else last.write_bytes(harmed)
    found = everything(mirror.parent)
    message = failure(capsys, command(folder, mirror))
    assert reason in message and tiny.files[-1].path in message and str(mirror) in message
    assert everything(mirror.parent) == found
    assert folder.exists() == before


def test_a_file_with_the_right_digest_and_the_wrong_magic_is_refused(tiny, mirror, folder, capsys, monkeypatch):
    bad = idx(np.zeros((4,), np.uint8)).replace(b"\x08\x01", b"\x0d\x01", 1)
    facts = {"content_sha256": hashlib.sha256(bad).hexdigest(), "content_size": len(bad)}
    files = (*tiny.files[:-1], SourceFile(tiny.files[-1].path, **facts))
    monkeypatch.setitem(SOURCES, "tiny", Source("tiny", "", SHAPE, ("a", "b"), COUNTS, "idx", files))
    (mirror / files[-1].path).write_bytes(gzip.compress(bad))
    assert "wrong magic number" in failure(capsys, command(folder, mirror))
    assert not folder.parent.exists()


@pytest.mark.parametrize("kind", ["dots", "absolute", "symlink", "hard link"])
def test_a_hostile_archive_with_the_right_digest_is_refused(tmp_path, folder, capsys, monkeypatch, kind):
    names = {"dots": "../../evil", "absolute": str(tmp_path / "evil")}
    member = tarfile.TarInfo(names.get(kind, "evil"))
    if kind in ("symlink", "hard link"):
        member.type = tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE
        member.linkname = "/etc/passwd"
    archive = tmp_path / "mirror" / "cifar10" / "a.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as stream:
        stream.addfile(member, io.BytesIO())
    file = SourceFile("cifar10/a.tar.gz", sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setitem(SOURCES, "cifar10", Source("cifar10", "", (3, 32, 32), ("a",), COUNTS, "cifar", (file,)))
    found = everything(tmp_path)
    assert "the archive is refused" in failure(capsys, command(folder, tmp_path / "mirror", "cifar10"))
    assert everything(tmp_path) == found and not folder.parent.exists()


class Slow(http.server.BaseHTTPRequestHandler):
    """Serves `server.content` with ranges; stalls in its middle while `server.stall` is set."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        content = self.server.contents[self.path.lstrip("/")]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[start : start + half])
        if self.server.stall:
            self.server.stalled.set()
            time.sleep(30)
        self.wfile.write(content[start + half :])


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads, server.block_on_close = True, False
    server.contents, server.starts = {}, []
    server.stall, server.stalled = True, threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


KILLED = """
import sys
from redoubt.data.sources import SOURCES, Source, SourceFile
from redoubt.steps import download
file = SourceFile("cifar10/a.tar.gz", sha256=sys.argv[1], size=int(sys.argv[2]))
SOURCES["cifar10"] = Source(
    "cifar10", "", (3, 32, 32), tuple("0123456789"), {"train": 10, "test": 10}, "cifar", (file,)
)
sys.exit(download.main(sys.argv[3:]))
"""


def cifar_archive():
    generator = np.random.default_rng(0)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        sizes = [*((f"data_batch_{number}", 2) for number in range(1, 6)), ("test_batch", 10)]
        for name, count in sizes:
            rows = generator.integers(0, 10, (count, 3073), np.uint8).tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(rows)
            archive.addfile(member, io.BytesIO(rows))
    # Larger than the chunks in which a download is stored.
    padding = gzip.compress(generator.bytes(2**19), 0)
    return buffer.getvalue() + padding


def test_a_killed_download_publishes_nothing_and_is_resumed(slow, folder):
    content = cifar_archive()
    slow.contents["cifar10/a.tar.gz"] = content
    url = f"http://127.0.0.1:{slow.server_address[1]}"
    facts = [hashlib.sha256(content).hexdigest(), str(len(content))]
    run = [sys.executable, "-c", KILLED, *facts, *command(folder, url, "cifar10")]
    environ = {**os.environ, "PYTHONPATH": str(Path(redoubt.__file__).parents[1])}
    process = subprocess.Popen(run, env=environ, stdout=subprocess.PIPE, text=True)
    part = folder.parent / ".partial" / "cifar10" / "a.tar.gz.part"
    assert slow.stalled.wait(20)
    deadline = time.monotonic() + 10
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = part.stat().st_size
    assert 0 < kept < len(content)
    assert [path.name for path in folder.parent.iterdir()] == [".partial"]
    slow.stall = False
    done = subprocess.run(run, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == f"cifar10: 10 train and 10 test images in {folder}\n"
    assert slow.starts == [0, kept]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_imagenet_without_a_folder_says_what_to_set(folder, capsys):
    arguments = ["--dataset", "imagenet", "--folder", str(folder)]
    assert "set data.imagenet in config/config.yaml" in failure(capsys, arguments)
    assert not folder.parent.exists()


def test_digits_need_no_mirror(folder):
    assert download.main(["--dataset", "digits", "--folder", str(folder), "--mirror", "/nowhere"]) == 0
    assert store.load(folder, "test").images().shape == (450, 1, 28, 28)


def test_help_and_an_unknown_dataset(capsys):
    with pytest.raises(SystemExit, match="0"):
        download.main(["--help"])
    with pytest.raises(SystemExit, match="2"):
        download.main(["--dataset", "mnits", "--folder", "x"])
    assert "mnits" in capsys.readouterr().err


def test_real_mnist(tmp_path, monkeypatch):
    reason = sources.unavailable("mnist", sources.mirrors([], os.environ), None, tmp_path)
    if ENVIRONMENT not in os.environ or reason:
        pytest.skip(reason or f"{ENVIRONMENT} is not set: no real data at hand")
    assert download.main(["--dataset", "mnist", "--folder", str(tmp_path / "mnist")]) == 0
    train, test = (store.load(tmp_path / "mnist", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000, 10_000)
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.images().shape == (10_000, 1, 28, 28) and test.images().max() == 255
