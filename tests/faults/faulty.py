"""A small study whose steps work for seconds, the command lines of its steps, and ways to harm them."""

import contextlib
import gzip
import hashlib
import http.server
import os
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
from redoubt_tree import ATTACKS, MODELS, ROOT, environment, tiny_copy

from redoubt.data import digits
from redoubt.data.sources import SOURCES

BASE, MODEL = "results/demo/models/digits-mlp-reference/seed-0", "results/demo/models/digits-mlp-parseval/seed-0"
ROWS = "results/demo/attacks/digits-mlp-parseval/seed-0/fgs-half.parquet"
WHOLE_MODEL = ("weights.safetensors", "model.json", "history.csv", "trace.parquet")
# By step: the files that it publishes, the first of them the target that Snakemake is asked for.
OUTPUTS = {
    "download": [f"results/data/mnist/{name}" for name in ("meta.json", "train.safetensors", "test.safetensors")],
    "pretrain": [f"{BASE}/{name}" for name in WHOLE_MODEL],
    "defend": [f"{MODEL}/{name}" for name in WHOLE_MODEL],
    "attack": [ROWS],
    "table": [f"results/demo/deepdefense/table-1.{suffix}" for suffix in ("csv", "md")],
    "figure": [f"results/demo/deepdefense/figure-4.{suffix}" for suffix in ("csv", "svg", "png")],
    "scorecard": [f"results/demo/{name}" for name in ("scorecard.csv", "claims.csv", "metrics.json")],
    "report": [f"results/demo/{name}" for name in ("report/index.html", "results.json", "report/papers.md")],
}

# Runs within every step: says when the step first touches data, and ends it where a trial asks for that.
HOOK = '''\
"""Watch a step: say when its work begins, count what it does to files, refuse the network."""
import os, sys

if "redoubt.steps" in " ".join(sys.orig_argv):
    _mark, _fatal, _log = (os.environ.get(name) for name in ("FAULTS_MARK", "FAULTS_FATAL", "FAULTS_LOG"))
    _offline, _seen = os.environ.get("FAULTS_OFFLINE"), [0, False]
    _files = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "tempfile.mkstemp", "shutil.rmtree")

    def _path(arguments):
        return os.fspath(arguments[0]) if arguments and isinstance(arguments[0], (str, os.PathLike)) else ""

    def _watch(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname") and _offline:
            with open(_offline, "a") as file:
                step = sys.orig_argv[sys.orig_argv.index("-m") + 1]
                file.write(f"{step} {event} {arguments[1:]!r}\\n")
            raise OSError("the network was asked for")
        data = event in ("open", *_files) and "results/" in str(_path(arguments))
        reads = event == "import" and arguments[0] == "pyarrow._parquet"  # whose reading is not told
        if _mark and not _seen[1] and (data or reads or event == "socket.connect"):
            _seen[1] = True
            open(_mark, "w").close()
        if data and (event != "open" or isinstance(arguments[1], str) and arguments[1].strip("rbt")):
            _seen[0] += 1
            if _log:
                with open(_log, "a") as file:
                    file.write(f"{event} {_path(arguments)}\\n")
            if str(_seen[0]) == _fatal:
                os.kill(os.getpid(), 9)

    sys.addaudithook(_watch)
'''


def small_study(folder):
    """Return a copy of the project with a small study: seconds of work in every step, and an MNIST of 7 000 images."""
    tree = tiny_copy(folder)
    training = tree.read(MODELS)
    training = training.replace("epochs: 1\n", "epochs: 25\n").replace("images: 200\n", "images: 1000\n")
    tree.write(MODELS, training.replace("track: {images: 20}", "track: {images: 100}"))
    attacks = tree.read(ATTACKS).replace("select: {images: 20}", "select: {images: 400}")
    attacks = attacks.replace(
        "attack: fgs\n    parameters: {error: 0.5}",
        "attack: pgd\n    parameters: {epsilons: [0.05], steps: 200, stop: false}",
    )
    tree.write(ATTACKS, attacks)
    sources = tree.read("src/redoubt/data/sources.py").replace("60_000", "6_000").replace("10_000", "1_000")
    for file, (path, content) in zip(SOURCES["mnist"].files, small_mnist().items(), strict=True):
        assert file.path == path
        sources = sources.replace(file.content_sha256, hashlib.sha256(content).hexdigest())
    tree.write("src/redoubt/data/sources.py", sources)
    tree.write("src/sitecustomize.py", HOOK)
    return tree


def small_mnist():
    """Return the four files of an MNIST of 6 000 and 1 000 images, unpacked, by their path on a mirror."""
    images, labels = digits.build(SOURCES["digits"])["train"]
    noise = np.random.default_rng(0).integers(0, 60, (7000, 28, 28), np.uint8)
    many = np.resize(images[:, 0], (7000, 28, 28)) // 2 + noise
    names = np.resize(labels, 7000).astype(np.uint8)
    parts = [many[:6000], names[:6000], many[6000:], names[6000:]]
    return {file.path: _idx(part) for file, part in zip(SOURCES["mnist"].files, parts, strict=True)}


def _idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


class Mirror(http.server.ThreadingHTTPServer):
    """A slow mirror of the small MNIST that can go on where a download was cut off; `resumed` counts how often."""

    daemon_threads = True

    def __init__(self, seconds=1.5):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = {f"/{path}": gzip.compress(content, 1, mtime=0) for path, content in small_mnist().items()}
        self.pause = seconds * _Answer.PIECE / sum(map(len, self.files.values()))
        self.resumed = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that is killed is part of the trials."""


class _Answer(http.server.BaseHTTPRequestHandler):
    PIECE = 2**16

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        content = self.server.files[self.path]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"small"')
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.server.resumed += 1
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        for place in range(start, len(content), self.PIECE):
            self.wfile.write(content[place : place + self.PIECE])
            time.sleep(self.server.pause)


def contents(tree, folder="results"):
    """Return the SHA-256 of every file below a folder, hidden ones and what a run keeps for the next included."""
    files = [path for path in (tree.folder / folder).rglob("*") if path.is_file() or path.is_symlink()]
    return {str(path.relative_to(tree.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def temporaries(found):
    """Return which files are of nobody: half written, or kept for a run that has ended."""
    return [name for name in found if any(part.startswith(".") for part in name.split("/"))]


NOWHERE = "http://127.0.0.1:9"


def commands(tree):
    """Return by step the shell command with which Snakemake would run it, data coming from `NOWHERE`."""
    given = ["--config", f"data={{mirrors: ['{NOWHERE}']}}", "--", *(files[0] for files in OUTPUTS.values())]
    text = tree.snakemake("-n", "-p", "--forceall", *given).stdout
    found = {}
    for block in text.split("\nrule ")[1:]:
        outputs = re.search(r"^ +output: (.*)$", block, re.MULTILINE)
        command = re.search(r"^Shell command: (.*)$", block, re.MULTILINE)
        for step, files in OUTPUTS.items():
            if outputs and files[0] in outputs[1].split(", "):
                found[step] = command[1]
    assert set(found) == set(OUTPUTS)
    return found


class Warm:
    """Where steps start from a process that has imported torch already, as in `make demo`; `variables` lead there."""

    def __init__(self):
        told = 'echo "$PATH"; echo "$REDOUBT_WARM"; cat'
        self.process = subprocess.Popen(
            [sys.executable, "-m", "redoubt.graph.warm", "bash", "-c", told],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        path, address = (self.process.stdout.readline().strip() for _ in range(2))
        self.variables = {"PATH": path, "REDOUBT_WARM": address} if address else {}

    def end(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Run:
    """A step that has been started by its shell command, in a process group of its own."""

    def __init__(self, tree, command, wrap=(), **variables):
        for folder in re.findall(r"> (\S+)/\S+ 2>&1", command):
            (tree.folder / folder).mkdir(parents=True, exist_ok=True)
        self.log = tree.folder / re.search(r"> (\S+) 2>&1", command)[1]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*wrap, "bash", "-c", command],
            cwd=tree.folder,
            env={**environment(), **{key: str(value) for key, value in variables.items()}},
            start_new_session=True,
        )

    def end(self):
        """Wait for the end and return the exit code."""
        return self.process.wait(timeout=300)

    def kill(self):
        """Kill the step and whatever it has started, as a power cut would; return the exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


@dataclass
class Pace:
    """How long an undisturbed step takes to start, and to do its work."""

    start: float
    work: float

    @classmethod
    def measure(cls, tree, command, mark):
        """Run a step to its end."""
        run = Run(tree, command, FAULTS_MARK=mark)
        while not mark.exists() and run.process.poll() is None:
            time.sleep(0.001)
        begun = time.monotonic()
        assert run.end() == 0, run.log.read_text()
        mark.unlink()
        return cls(begun - run.started, time.monotonic() - begun)

    def killed(self, tree, command, mark, seed, early):
        """Run a step and kill it at a random moment of its work, or of its start when `early`; return its log."""
        draw = random.Random(seed)
        for _ in range(5):
            mark.unlink(missing_ok=True)
            run = Run(tree, command, FAULTS_MARK=mark)
            if not early:
                while not mark.exists() and run.process.poll() is None:
                    time.sleep(0.001)
            time.sleep(draw.uniform(0, self.start if early else self.work))
            if run.process.poll() is None and run.kill() == -signal.SIGKILL:
                break
            run.end()  # it was quicker than the one that was measured
        else:
            raise AssertionError("the step ended before it could be killed, five times")
        return run.log


def forget(tree, step):
    """Remove what a step has published."""
    for name in OUTPUTS[step]:
        (tree.folder / name).unlink(missing_ok=True)


def refusal(run):
    """Return the one line with which a step has ended."""
    text = run.log.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("resumed after step")]
    assert len(lines) == 1 and lines[0].startswith("error: "), text
    return lines[0]
