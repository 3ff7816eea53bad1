"""Steps started from a warm process: the same bytes, exit codes and messages, and no job outlives its client."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redoubt.graph import snapshot, warm

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="jobs are forked on Linux only")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shell(tmp_path):
    """Function (script, warm) to a finished bash process that runs in a separate folder, without bytecode kept there.

    Python takes kept bytecode for a source that was changed within the same second and has the same size.
    """

    def run(script, warm=True, **environment):
        command = ["bash", "-c", script]
        full = [sys.executable, "-m", "redoubt.graph.warm", *command] if warm else command
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        given = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        given |= environment
        return subprocess.run(full, cwd=tmp_path, env=given, capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture
def patched(tmp_path):
    """Function (code, script) to a finished bash process, the server being patched by the code."""

    def run(code, script):
        main = f"import os, sys; from redoubt.graph import warm\n{code}\nsys.exit(warm.main(sys.argv[1:]))"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        given = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-c", main, "bash", "-c", script]
        return subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=False, timeout=60)

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
    for name in ("weights.safetensors", "history.csv", "trace.parquet", "model.json"):
        assert (tmp_path / "cold" / name).read_bytes() == (tmp_path / "warm" / name).read_bytes()


def test_a_mistake_is_the_same_line_and_exit_code(shell):
    command = "python -m redoubt.steps.attack --entry '{' --data a --weights b --preprocessing p --out c; exit $?"
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


def told_by(tmp_path, folder, number):
    """Return a command that runs a step of a package in a folder, which tells the number of an attack there."""
    files = {
        "registry.py": "KINDS = ('attacks',)",
        "attacks/broken.py": "raise ValueError('the step that needs it will say so')",
        "attacks/one.py": f"NUMBER = {number}",
        "steps/tell.py": "from redoubt.attacks import one\nif __name__ == '__main__': print(one.NUMBER)",
        **{f"{room}__init__.py": "" for room in ("", "attacks/", "steps/")},
    }
    for name, text in files.items():
        place = tmp_path / folder / "redoubt" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return f"PYTHONPATH={folder} python -m redoubt.steps.tell"


@pytest.mark.parametrize(
    ("folder", "seen"), [(".snakemake/sources/a/src", 1), ("sources/a/src", 100), (".snakemake/sources/a", 100)]
)
def test_modules_are_imported_once_from_the_snapshot_of_a_run_alone(folder, seen, patched, tmp_path):
    tell, other = (told_by(tmp_path, *package) for package in ((folder, 1), (".snakemake/sources/b/src", 3)))
    change = f"echo NUMBER = 100 > {folder}/redoubt/attacks/one.py"
    done = patched("warm.PACKAGES = ()", f"{tell}; {change}; {tell}; {other}")
    assert (done.stdout, done.stderr) == (f"1\n{seen}\n3\n", "")


def test_a_run_copies_its_sources_to_where_they_are_imported_once(tmp_path, monkeypatch):
    (tmp_path / "src/redoubt").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source = snapshot.freeze() / "src"
    assert warm._snapshot([str(tmp_path), "0", f"PYTHONPATH={source}"]) == tmp_path / source


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


SAYS_WHERE = "import os, sys; print(os.getppid() != int(os.environ['SHELL_ID']), ascii(sys.argv[1:]), sys.executable)"
ARGUMENT = """a 'b' "c $HOME"""
STEP = "export SHELL_ID=$$ PYTHONPATH=src; python -m redoubt.steps.where "


def test_an_apostrophe_and_a_space_in_the_paths_of_checkout_and_environment(tmp_path):
    checkout = tmp_path / "o'brien's $HOME `x`"
    shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "src/redoubt/steps/where.py").write_text(SAYS_WHERE)
    (checkout / ".venv").symlink_to(sys.prefix)
    python = checkout / ".venv/bin/python"
    done = subprocess.run(
        [python, "-m", "redoubt.graph.warm", "bash", "-c", STEP + shlex.quote(ARGUMENT)],
        cwd=checkout, env={**os.environ, "PYTHONPATH": "src"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"True {[ARGUMENT]!a} {python}\n", "")


@pytest.fixture
def noexec(tmp_path):
    """A temporary folder whose files cannot be executed."""
    folder = tmp_path / "noexec"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a folder without the right to execute cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("kind", ["long", "noexec", "colon", "absent"])
def test_without_a_server_where_it_cannot_start(kind, patched, package, tmp_path, request):
    folder = (
        request.getfixturevalue("noexec") if kind == "noexec" else tmp_path / ("x" * 100 if kind == "long" else "a:b")
    )
    if kind != "absent":
        folder.mkdir(exist_ok=True)
    (package / "where.py").write_text(SAYS_WHERE)
    done = patched(f"import tempfile; tempfile.tempdir = {str(folder)!r}", STEP + "é; exit 3")
    assert (done.returncode, done.stdout) == (3, f"False ['\\xe9'] {sys.executable}\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("note: every step imports its packages itself, which is slower (")


def test_a_step_runs_by_itself_where_no_process_can_be_forked(patched, package):
    (package / "where.py").write_text(SAYS_WHERE)
    patch = "def fork(): raise OSError('no process left')\nos.fork = fork; warm.PACKAGES = ('nowhere',)"
    done = patched(patch, STEP + "x; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, f"False ['x'] {sys.executable}\n", "")


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_arguments_keep_their_bytes_in_any_locale(utf8, shell, package):
    (package / "echo.py").write_text("import os, sys; print(list(map(os.fsencode, [*sys.argv[1:], os.environ['X']])))")
    given = {"PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = shell(r"PYTHONPATH=src X=$'\xe9☃' python -m redoubt.steps.echo '' $'\xff' é", **given)
    assert done.stdout == f"{[b'', bytes([255]), 'é'.encode(), bytes([233]) + '☃'.encode()]}\n", done.stderr


def test_an_unknown_command_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "redoubt.graph.warm", "nosuch"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "error: nosuch: No such file or directory\n")
