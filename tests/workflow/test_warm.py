"""Steps started from a warm process: the same bytes, exit codes and messages, and no job outlives its client."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="jobs are forked on Linux only")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shell(tmp_path):
    """Function (script, warm) to a finished bash process that runs in a folder of its own."""

    def run(script, warm=True, **environment):
        command = ["bash", "-c", script]
        full = [sys.executable, "-m", "redoubt.graph.warm", *command] if warm else command
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        given = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), **environment}
        return subprocess.run(full, cwd=tmp_path, env=given, capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture
def package(tmp_path):
    """An empty package of steps, where a test puts its own."""
    folder = tmp_path / "src/redoubt/steps"
    folder.mkdir(parents=True)
    for empty in (folder, folder.parent):
        (empty / "__init__.py").write_text("")
    return folder


def test_the_same_bytes_as_a_step_that_starts_by_itself(shell, tmp_path, tiny_data, make_entry):
    entry = make_entry()
    prepare = f"python -m redoubt.steps.prepare --entry '{json.dumps(entry['preprocessing'])}' --data {tiny_data}"
    assert shell(f"{prepare} --out prepared.safetensors").returncode == 0
    command = (
        f"python -m redoubt.steps.train --entry '{json.dumps(entry)}' --seed 3 --data {tiny_data} "
        "--preprocessing prepared.safetensors --folder "
    )
    cold, warm = (shell(command + name, name == "warm") for name in ("cold", "warm"))
    assert (cold.returncode, warm.returncode) == (0, 0), warm.stderr
    assert cold.stdout.replace("cold", "warm") == warm.stdout != ""
    for name in ("weights.safetensors", "history.csv", "model.json"):
        assert (tmp_path / "cold" / name).read_bytes() == (tmp_path / "warm" / name).read_bytes()


def test_a_mistake_is_the_same_line_and_exit_code(shell):
    command = "python -m redoubt.steps.attack --entry '{' --data a --weights b --out c; exit $?"
    cold, warm = shell(command, warm=False), shell(command)
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)
    assert warm.returncode == 2 and warm.stderr.startswith("error: --entry")


def test_a_job_reads_the_sources_as_they_are_when_it_starts(shell, package):
    script = (
        "echo 'print(1)' > src/redoubt/steps/new.py; PYTHONPATH=src python -m redoubt.steps.new;"
        'echo \'import os, sys; print(2, sys.argv[1:], os.environ["MARK"], sys.exit("end"))\''
        "> src/redoubt/steps/new.py; MARK='a b' PYTHONPATH=src python -m redoubt.steps.new --x 'y z'"
    )
    done = shell(script)
    assert (done.stdout, done.returncode) == ("1\n", 1)
    (package / "new.py").write_text("import os, sys, torch; print(os.environ['MARK'], sys.argv[1:], os.getppid())")
    done = shell("MARK='a b' PYTHONPATH=src python -m redoubt.steps.new --x 'y z'; echo $PPID")
    mark, parent = done.stdout.splitlines()
    assert mark == f"a b ['--x', 'y z'] {parent}"  # a child of the server, not of the shell


def test_anything_else_starts_as_usual(shell):
    done = shell("python -c 'import sys; print(sys.executable, sys.flags.isolated)'; exit 7")
    assert (done.stdout, done.returncode) == (f"{sys.executable} 0\n", 7)


def test_no_command_is_one_line():
    done = subprocess.run([sys.executable, "-m", "redoubt.graph.warm"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_job_dies_with_its_client_and_the_others_go_on(shell, tmp_path, package):
    (package / "slow.py").write_text(
        "import os, sys, time\n"
        "open(f'{sys.argv[1]}.pid', 'w').write(str(os.getpid()))\n"
        "time.sleep(float(sys.argv[2]))\n"
        "open(f'{sys.argv[1]}.done', 'w').close()\n"
    )
    script = (
        "PYTHONPATH=src python -m redoubt.steps.slow other 3 & OTHER=$!;"
        "PYTHONPATH=src python -m redoubt.steps.slow killed 60 & KILLED=$!;"
        "while [ ! -s killed.pid ]; do sleep 0.1; done; kill -9 $KILLED;"
        "for i in $(seq 50); do kill -0 $(cat killed.pid) 2>/dev/null || { touch gone; break; }; sleep 0.1; done;"
        "wait $OTHER"
    )
    start = time.monotonic()
    done = shell(script)
    assert done.returncode == 0 and time.monotonic() - start < 60
    assert (tmp_path / "gone").exists() and not (tmp_path / "killed.done").exists()
    assert (tmp_path / "other.done").exists()


def test_a_job_that_is_killed_fails(shell, package):
    (package / "end.py").write_text("import os; os.kill(os.getpid(), 9)")
    assert shell("PYTHONPATH=src python -m redoubt.steps.end; echo rc $?").stdout == "rc 1\n"
