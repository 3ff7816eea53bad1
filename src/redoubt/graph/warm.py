"""Run a command, such as a whole workflow, whose steps start from a process that has already imported torch.

    python -m redoubt.graph.warm snakemake --cores all

A step of the demo works for a second and imports for two. Here one server imports the third-party packages once; while
the command runs, `python -m redoubt.steps.<step>` is a small client that asks the server to fork. The project's own
modules are never imported before the fork, so a job reads the sources as they are when it starts, as ever. Whatever
else `python` is asked to do starts as usual, and so does everything where `python` is another one (an environment of
conda) or the system is not Linux.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys

ADDRESS = "REDOUBT_WARM"
FIGURES = ("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "seaborn")
PACKAGES = ("torch", "numpy", "pandas", "pyarrow.parquet", "pydantic", "safetensors.torch", "tqdm", *FIGURES)
HEADER = struct.Struct("!I")
SHIM = """#!/bin/sh
exec '{python}' -IS '{client}' --client '{python}' "$@"
"""


def client(python: str, arguments: list[str]) -> int:
    """Have the server run a step and return its exit code; anything else becomes the Python that was asked for."""
    step = len(arguments) > 1 and arguments[0] == "-m" and arguments[1].startswith("redoubt.steps.")
    server = socket.socket(socket.AF_UNIX)
    try:
        if not step:
            raise OSError
        server.connect(os.environ[ADDRESS])
    except (OSError, KeyError):
        os.execv(python, [python, *arguments])
    here = os.getcwd()  # noqa: PTH109, pathlib would double the client's start-up
    request = json.dumps({"arguments": arguments[1:], "folder": here, "environment": dict(os.environ)}).encode()
    socket.send_fds(server, [HEADER.pack(len(request))], [0, 1, 2])
    server.sendall(request)
    answer = server.recv(1)
    return answer[0] if answer else 1  # no answer: the job was killed


def _read(connection: socket.socket) -> tuple[dict, list[int]]:
    header, streams, _, _ = socket.recv_fds(connection, HEADER.size, 3)
    (left,) = HEADER.unpack(header)
    parts = []
    while left:
        parts.append(connection.recv(left))
        if not parts[-1]:
            raise EOFError("the client is gone")
        left -= len(parts[-1])
    return json.loads(b"".join(parts)), streams


def _die_with(connection: socket.socket) -> None:
    connection.recv(1)  # returns when the client ends, however it ends
    os.kill(os.getpid(), signal.SIGKILL)


def _as_started(request: dict, streams: list[int]) -> None:
    """Make this process what `python -m <step> ...` would have been."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    own = [folder for folder in sys.path if folder.startswith((sys.prefix, sys.base_prefix))]
    asked = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:] = [request["folder"], *asked, *own]
    sys.argv[:] = request["arguments"]
    for name in [name for name in sys.modules if name.split(".")[0] == "redoubt"]:
        del sys.modules[name]


def _job(connection: socket.socket) -> None:
    """Run one step in this forked process, answer with its exit code, and end."""
    import runpy
    import threading
    import traceback

    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        _as_started(*_read(connection))
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


def serve(listener: socket.socket, running) -> None:
    """Fork a job for every client for as long as `running()` is true."""
    jobs: set[int] = set()
    while running():
        jobs -= {job for job in jobs if os.waitpid(job, os.WNOHANG)[0]}
        if not select.select([listener], [], [], 0.1)[0]:
            continue
        connection, _ = listener.accept()
        if (job := os.fork()) == 0:
            listener.close()
            _job(connection)
        jobs.add(job)
        connection.close()


def main(command: list[str]) -> int:
    """Run `command` with a server for its steps and return its exit code."""
    import importlib
    import subprocess
    import tempfile
    from pathlib import Path

    if not command:
        print(
            "error: give a command to run, as in: python -m redoubt.graph.warm snakemake",
            file=sys.stderr,
        )
        return 2
    if not sys.platform.startswith("linux"):
        return subprocess.run(command, check=False).returncode
    with tempfile.TemporaryDirectory(prefix="redoubt-") as folder, socket.socket(socket.AF_UNIX) as listener:
        address, shim = f"{folder}/socket", Path(folder, "python")
        shim.write_text(SHIM.format(python=sys.executable, client=Path(__file__).resolve()))
        shim.chmod(0o755)
        listener.bind(address)
        listener.listen(64)
        environment = {**os.environ, ADDRESS: address, "PATH": os.pathsep.join([folder, os.environ["PATH"]])}
        running = subprocess.Popen(command, env=environment)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal reaches the command itself
        signal.signal(signal.SIGTERM, lambda *_: running.terminate())
        for name in PACKAGES:
            importlib.import_module(name)
        serve(listener, lambda: running.poll() is None)
        return running.returncode


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        sys.exit(client(sys.argv[2], sys.argv[3:]))
    sys.exit(main(sys.argv[1:]))
