"""Files are whole or absent; one spelling of JSON."""

import json
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
    assert json.loads(files.canonical_json(value)) == value


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


def test_broken_json_is_one_line(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{")
    for file in (path, tmp_path / "absent.json"):
        with pytest.raises(RedoubtError, match=Path(file).name) as caught:
            files.read_json(file)
        assert "\n" not in str(caught.value)


def test_cli_turns_user_errors_into_one_line(capsys):
    def main(argv):
        raise RedoubtError("what\nwhere")

    assert errors.cli(main) == 2
    assert capsys.readouterr().err == "error: what where\n"
