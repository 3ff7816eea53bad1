"""Run a command, such as a whole workflow, whose steps start from a process that has already imported torch.

    python -m redoubt.graph.warm snakemake --cores all

A step of the demo works for a second and imports for two. Here one server imports the third-party packages once; while
the command runs, `python -m redoubt.steps.<step>` is a small client that asks the server to fork. The project's own
modules are imported before the fork from the snapshot of a run alone, which never changes; elsewhere a job reads the
sources as they are when it starts, as usual. Any other use of `python` starts as usual, and so does everything where
`python` is another one (an environment of conda), the system is not Linux, or the server cannot start: a temporary
folder with a long path or without the right to execute.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = "REDOUBT_WARM"
FIGURES = ("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "seaborn")
TORCH = ("torch", "torch._dynamo")  # the latter is imported when an optimizer of torch.optim is made
TABLES = ("pandas", "pandas.io.formats.csvs", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.pandas_compat")
TENSORS = ("numpy", "safetensors.numpy", "safetensors.torch")
PACKAGES = (*TORCH, *TENSORS, *TABLES, *FIGURES, "numba", "pydantic", "tqdm", "foolbox")
HEADER = struct.Struct("!I")
PATIENCE_SECONDS = 10.0  # for a client to say what it asks for
SHIM = """#!/bin/sh
exec {python} -IS {client} --client {python} "$@"
"""


def client(python: str, arguments: list[str]) -> int:
    """Have the server run a step and return its exit code; anything else becomes the Python that was asked for."""
    step = len(arguments) > 1 and arguments[0] == "-m" and arguments[1].startswith("redoubt.steps.")
    if (server := _request(arguments[1:]) if step else None) is None:
        os.execv(python, [python, *arguments])
    answer = server.recv(1)
    return answer[0] if answer else 1  # no answer: the job was killed


def _request(arguments: list[str]) -> socket.socket | None:
    """Return a connection to the job that the server has forked for a step, or None where there is no server."""
    here = os.getcwd()  # noqa: PTH109, pathlib would double the client's start-up
    texts = [here, str(len(arguments)), *arguments, *(f"{name}={value}" for name, value in os.environ.items())]
    request = b"\0".join(map(os.fsencode, texts))  # bytes, since the server may have another locale
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(os.environ[ADDRESS])
        socket.send_fds(server, [HEADER.pack(len(request))], [0, 1, 2])
        server.sendall(request)
        return server if server.recv(1) else None  # the server may be unable to fork
    except (OSError, KeyError):
        return None


def _read(connection: socket.socket) -> tuple[list[str], list[int]]:
    header, streams, _, _ = socket.recv_fds(connection, HEADER.size, 3)
    (left,) = HEADER.unpack(header)
    parts = []
    while left:
        parts.append(connection.recv(left))
        if not parts[-1]:
            raise EOFError("the client is gone")
        left -= len(parts[-1])
    return [os.fsdecode(text) for text in b"".join(parts).split(b"\0")], streams


def _die_with(connection: socket.socket) -> None:
    connection.recv(1)  # returns when the client ends, however it ends
    os.kill(os.getpid(), signal.SIGKILL)


def _asked(texts: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """Return folder, arguments and environment of a request."""
    folder, count, *rest = texts
    arguments, environment = rest[: int(count)], rest[int(count) :]
    return folder, arguments, {name: value for name, _, value in (text.partition("=") for text in environment)}


def _snapshot(texts: list[str]) -> Path | None:
    """Return the folder that a request takes our modules from, if it is in the snapshot of a run."""
    from pathlib import Path

    folder, _, environment = _asked(texts)
    source = Path(folder, environment.get("PYTHONPATH", "").split(os.pathsep)[0])
    copied = source.parts[-4:-2] == (".snakemake", "sources") and source.name == "src"
    return source if copied and not Path(folder, "redoubt").exists() else None


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]


def _adopt(source: Path) -> None:
    """Import steps and methods from a snapshot; steps are forgotten again, as a job runs one as its main program."""
    import gc
    import importlib
    import pkgutil

    _forget("redoubt")
    sys.path.insert(0, str(source))
    with contextlib.suppress(Exception):  # the step that needs it will say so
        kinds = importlib.import_module("redoubt.registry").KINDS
        rooms = [importlib.import_module(f"redoubt.{room}") for room in ("steps", *kinds)]
        for room in rooms:
            for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
                with contextlib.suppress(Exception, SystemExit):
                    importlib.import_module(module.name)
    sys.path.remove(str(source))
    _forget("redoubt.steps")
    gc.collect()
    gc.freeze()


def _as_started(texts: list[str], streams: list[int], adopted: Path | None) -> None:
    """Make this process what `python -m <step> ...` would have been, with the modules that it would import."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    folder, arguments, environment = _asked(texts)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    own = [place for place in sys.path if place.startswith((sys.prefix, sys.base_prefix))]
    asked = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = [folder, *asked, *own]
    sys.argv[:] = arguments
    if adopted is None or _snapshot(texts) != adopted:
        _forget("redoubt")


def _job(connection: socket.socket, texts: list[str], streams: list[int], adopted: Path | None) -> None:
    """Run one step in this forked process, answer with its exit code, and end."""
    import runpy
    import threading
    import traceback

    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        connection.settimeout(None)
        connection.sendall(b"+")
        _as_started(texts, streams, adopted)
        threading.Thread(target=_die_with, args=[connection], daemon=True).start()
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code & 0xFF]))
    os._exit(code & 0xFF)  # without the second that it takes to take torch down


def serve(listener: socket.socket, running: Callable[[], bool]) -> None:
    """Fork a job for every client for as long as `running()` is true."""
    jobs: set[int] = set()
    adopted: Path | None = None
    while running():
        jobs -= {job for job in jobs if os.waitpid(job, os.WNOHANG)[0]}
        if not select.select([listener], [], [], 0.1)[0]:
            continue
        connection, _ = listener.accept()
        streams: list[int] = []
        with connection, contextlib.suppress(OSError, EOFError):  # the client, unanswered, runs the step itself
            connection.settimeout(PATIENCE_SECONDS)
            texts, streams = _read(connection)
            if adopted is None and (adopted := _snapshot(texts)):
                _adopt(adopted)
            job = os.fork()  # an OSError where no process is left
            if job == 0:
                listener.close()
                _job(connection, texts, streams, adopted)
            jobs.add(job)
        for stream in streams:
            os.close(stream)


@contextlib.contextmanager
def _served(listener: socket.socket) -> Iterator[dict[str, str]]:
    """Yield the environment in which steps are clients of the server at `listener`.

    Raises:
        OSError: the temporary folder cannot hold a socket or a program.
    """
    import shlex
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="redoubt-") as folder:
        address, shim = f"{folder}/socket", Path(folder, "python")
        names = {"python": shlex.quote(sys.executable), "client": shlex.quote(str(Path(__file__).resolve()))}
        shim.write_bytes(os.fsencode(SHIM.format(**names)))
        shim.chmod(0o755)
        if not os.access(shim, os.X_OK) or os.pathsep in folder:
            raise OSError(f"{folder} cannot hold programs")
        listener.bind(address)
        listener.listen(64)
        yield {**os.environ, ADDRESS: address, "PATH": os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])}


def _heat() -> None:
    """Import the packages of steps, and have two of them find the parts that they load when first used."""
    import gc
    import importlib

    for name in PACKAGES:
        with contextlib.suppress(ImportError):  # the step that needs it will say so
            importlib.import_module(name)
    with contextlib.suppress(ImportError):
        importlib.import_module("pydantic").create_model("Nothing")
        importlib.import_module("numba").njit("float64(float64)")(lambda number: number)
    gc.freeze()  # or the first collection of a job copies the pages of all that it has inherited


def _run(command: list[str], listener: socket.socket | None, environment: dict[str, str] | None) -> int:
    """Run `command` while serving its steps, if there is a listener, and return its exit code."""
    import subprocess

    try:
        running = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal reaches the command itself
    signal.signal(signal.SIGTERM, lambda *_: running.terminate())
    if listener is not None:
        _heat()
        serve(listener, lambda: running.poll() is None)
    return running.wait()


def main(command: list[str]) -> int:
    """Run `command` with a server for its steps, where there can be one, and return its exit code."""
    if not command:
        print("error: give a command to run, as in: python -m redoubt.graph.warm snakemake", file=sys.stderr)
        return 2
    if not sys.platform.startswith("linux"):
        return _run(command, None, None)
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            environment = stack.enter_context(_served(listener))
        except OSError as error:
            print(f"note: every step imports its packages itself, which is slower ({error})", file=sys.stderr)
            listener, environment = None, None
        return _run(command, listener, environment)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        sys.exit(client(sys.argv[2], sys.argv[3:]))
    sys.exit(main(sys.argv[1:]))
