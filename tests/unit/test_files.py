"""Files are whole or absent; one spelling of JSON."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redoubt import errors, files
from redoubt.errors import RedoubtError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_canonical_json_reads_back(value):
    text = files.canonical_json(value)
    assert json.loads(text) == value and text.isascii()


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_canonical_json_ignores_the_order_of_keys(value):
    assert files.canonical_json(value) == files.canonical_json(dict(reversed(value.items())))


def test_atomic_path_replaces_whole(tmp_path):
    path = tmp_path / "a" / "file.txt"
    files.write_text(path, "one")
    files.write_text(path, "two")
    assert path.read_text() == "two" and list(path.parent.iterdir()) == [path]


def test_atomic_path_leaves_the_old_file_when_the_work_fails(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "good")
    with pytest.raises(OSError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError("no space left")
    assert path.read_text() == "good" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_a_disk_that_takes_nothing_is_told_with_file_and_remedy(code, tmp_path):
    path = tmp_path / "file.txt"
    with pytest.raises(RedoubtError, match=r"file\.txt: .*; .*, then run this again"), files.atomic_path(path):
        raise OSError(code, os.strerror(code))
    assert not list(tmp_path.iterdir())


def test_a_file_that_outgrows_a_limit_is_told(tmp_path):
    script = (
        "import resource, sys; from redoubt import errors, files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.exit(errors.cli(lambda argv: files.write_text('long.txt', 'x' * 5000)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.startswith("error: long.txt: the file would be larger than is allowed; raise the limit")
    assert done.stderr.count("\n") == 1


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "file.txt"
    script = (
        "import os, sys; from redoubt import files\n"
        "with files.atomic_path(sys.argv[1]) as half: half.write_text('half'); os.kill(os.getpid(), 9)"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()  # the second removed that of the first
    (tmp_path / "other.txt").write_text("other")
    with files.atomic_path(path) as living:
        assert not left.exists()
        files.write_text(path, "whole")
        assert living.exists()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file.txt", "other.txt"]


def test_several_files_appear_together_or_not_at_all(tmp_path):
    files.write_all({tmp_path / "a": "one", tmp_path / "b": b"two"})
    assert (tmp_path / "a").read_text() == "one" and (tmp_path / "b").read_bytes() == b"two"
    with pytest.raises(TypeError):
        files.write_all({tmp_path / "a": "three", tmp_path / "b": 4})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "one", "b": "two"}


def test_broken_json_is_one_line(tmp_path):
    for name, content in (("broken", b"{"), ("list", b"[1]"), ("binary", b"\xff"), ("deep", b"[" * 100_000)):
        (tmp_path / f"{name}.json").write_bytes(content)
    for file in (*tmp_path.iterdir(), tmp_path / "absent.json"):
        with pytest.raises(RedoubtError, match=Path(file).name) as caught:
            files.read_json(file)
        assert "\n" not in str(caught.value)


def test_a_key_that_a_file_lacks_is_one_line(tmp_path):
    files.write_json(tmp_path / "facts.json", {"entry": {"id": "a"}})
    facts = files.read_json(tmp_path / "facts.json")
    assert facts == {"entry": {"id": "a"}}
    for holder, key in ((facts, "seed"), (facts["entry"], "start")):
        with pytest.raises(RedoubtError, match=rf"facts\.json: no key '{key}'; delete it and run its step again"):
            holder[key]


def test_cli_tells_a_failing_disk_and_hides_no_other_failure(capsys):
    def main(argv):
        raise OSError(code, os.strerror(code), "results/file")

    code = errno.EROFS
    assert errors.cli(main) == 2
    assert capsys.readouterr().err.startswith("error: results/file: the file system is read-only; ")
    code = errno.EBADF
    with pytest.raises(OSError):
        errors.cli(main)


def test_cli_turns_user_errors_into_one_line(capsys):
    def main(argv):
        raise RedoubtError("what\nwhere")

    assert errors.cli(main) == 2
    assert capsys.readouterr().err == "error: what where\n"
