"""The tool behind `make mutants`: entries are found by meaning, and problems are listed before anything runs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import mutants

SOURCE = '''
LIMIT = 3

class Box:
    def shrink(self, size, by):
        """Return a smaller size."""
        if size > LIMIT:  # a reason
            size = min(size - by, {"kept": LIMIT}["kept"])
        return size

def shrink(size):
    return size
'''
REFORMATTED = SOURCE.replace(
    'size = min(size - by, {"kept": LIMIT}["kept"])',
    "size = min(  # why\n    size\n    - by,\n    {'kept': LIMIT}[ 'kept' ],\n)",
)
FIND = 'min(size - by, {"kept": LIMIT}["kept"])'


def entry(**changes) -> dict[str, str]:
    return {"in": "Box.shrink", "find": FIND, "replace": "size", **changes}


def test_layout_comments_quotes_and_trailing_commas_do_not_matter():
    assert REFORMATTED != SOURCE
    assert "size = size\n" in mutants.mutated(SOURCE, entry())
    assert "size = size\n" in mutants.mutated(REFORMATTED, entry())


def test_a_block_is_replaced_at_its_own_depth():
    block = f"if size > LIMIT:\n    size = {FIND}"
    assert "        pass\n        return size" in mutants.mutated(REFORMATTED, entry(find=block, replace="pass"))
    two = mutants.mutated(SOURCE, entry(find="return size", replace="size += 1\nreturn size"))
    assert "        size += 1\n        return size" in two


def test_a_piece_is_looked_for_in_its_function_alone():
    changed = mutants.mutated(SOURCE, entry(**{"in": "shrink"}, find="return size", replace="return 0"))
    assert changed.endswith("return 0\n") and changed.count("return size") == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"in": "Box.grow"}, "has no Box.grow"),
        ({"find": "max(size)"}, "0 times, not once"),
        ({"in": "", "find": "return size", "replace": "pass"}, "2 times, not once"),
        ({"find": "min(size"}, "cannot be read as code"),
        ({"find": "if size > LIMIT:", "replace": ""}, "is not Python when replaced"),
        ({"find": "{'kept': LIMIT}", "replace": '{"kept": LIMIT, }'}, "means the same"),
    ],
)
def test_an_entry_that_does_not_apply_says_why(changes, message):
    with pytest.raises(mutants.DoesNotApply, match=message):
        mutants.mutated(SOURCE, entry(**changes))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, text in {
        "src/box.py": SOURCE,
        "src/chest.py": "DEPTH = 4\n",
        "tests/test_box.py": "from box import Box, shrink\ndef test_box():\n    assert Box().shrink(9, 1) == 3\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "ENTRIES", tmp_path / "tests/mutants.yaml")

    def write(*entries):
        common = {"file": "src/box.py", "tests": "tests/test_box.py"}
        named = [{"name": f"m{n}", **(common | each), "find": each["find"]} for n, each in enumerate(entries)]
        mutants.ENTRIES.write_text(mutants.yaml.safe_dump(named, sort_keys=False))

    return write


def test_all_entries_that_do_not_apply_are_listed_before_any_runs(tree, capsys, monkeypatch):
    monkeypatch.setattr(mutants, "run", lambda *_: pytest.fail("ran"))
    tree(
        entry(),
        entry(find="DEPTH = 4", replace="DEPTH = 5", **{"in": ""}),
        entry(file="src/gone.py"),
        entry(tests="tests/gone.py"),
    )
    assert mutants.main([]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["m1", "m2", "m3"]
    assert (
        "(it is in src/chest.py: module)" in lines[0] and "no src/gone.py (it is in src/box.py: Box.shrink)" in lines[1]
    )


def test_entries_follow_a_piece_that_has_moved(tree, capsys):
    tree(entry(file="src/gone.py"), entry(find="DEPTH = 4", replace="DEPTH = 5"), entry(find="nowhere()"))
    assert mutants.main(["--follow"]) == 1
    first, second, third = mutants.yaml.safe_load(mutants.ENTRIES.read_text())
    assert (first["file"], first["in"]) == ("src/box.py", "Box.shrink")
    assert second["file"] == "src/chest.py" and "in" not in second
    assert third == {**entry(find="nowhere()"), "name": "m2", "file": "src/box.py", "tests": "tests/test_box.py"}
    shown = capsys.readouterr()
    assert "2 entries follow" in shown.out and [line.split()[1] for line in shown.err.splitlines()] == ["m2:"]


def test_survivors_are_counted(tree, capsys):
    tree(entry(), entry(**{"in": "shrink"}, find="return size", replace="return 0"))
    assert mutants.main(["--jobs", "2"]) == 1
    table = capsys.readouterr().out
    assert "| m0 | src/box.py | test_box |" in table and "| m1 | src/box.py | **nothing** |" in table
    assert "1 survived" in table
    assert mutants.main(["m0"]) == 0


def test_what_broken_code_leaves_behind_catches_nothing_else(tree, capsys):
    tree(
        entry(find="size = " + FIND, replace="open('left', 'w'); size = 0"),
        entry(find="class Box", replace="class Box(object)", **{"in": ""}),
    )
    (mutants.ROOT / "tests/test_box.py").write_text(
        "import pathlib\nfrom box import Box\ndef test_box():\n"
        "    assert not pathlib.Path('left').exists() and Box().shrink(9, 1) == 3\n"
    )
    assert mutants.main(["--jobs", "1"]) == 1
    assert "| m1 | src/box.py | **nothing** |" in capsys.readouterr().out


def test_a_test_that_fails_anyhow_has_caught_nothing(tree):
    tree(entry())
    cases = "import pytest\n@pytest.mark.parametrize('x', ['a b'])\ndef test_box(x):\n    assert False\n"
    (mutants.ROOT / "tests/test_box.py").write_text(cases)
    with pytest.raises(SystemExit, match=r"tests/test_box\.py::test_box fails before anything is broken"):
        mutants.main([])
