"""Code as jobs see it: which modules, and what of their text counts."""

import hashlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from redoubt.graph import code

ROOT = Path(__file__).resolve().parents[2]
OTHERS = sorted(Path.home().glob(".pyenv/versions/3.1[1-9].*/bin/python"))
TEXT = '''\
"""A module."""

import math


def area(radius: float, shown: bool = False) -> float:
    """Return an area."""
    if radius < 0:
        raise ValueError(f"{radius}: " "negative", radius)
    title = f"a # b {radius:{'.2f'}} \\N{BULLET}"
    lines = """ä # no comment

    second"""  # a comment
    return math.pi * radius**2 if shown else len(title + lines)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another\n\nmodule."""'),
        ('"""A module."""\n', ""),
        ("import math\n", "import math  # why\n\n# a comment\n\n"),
        ('"""Return an area."""', "'Return.'"),
        ('f"{radius}: " "negative"', 'f"must not be negative: {radius - 1}"'),
        ("(radius: float, shown: bool = False)", "(\n    radius: float,  # of what\n    shown: bool = False\n)"),
        ("  # a comment\n", "\n"),
        ("import math\n", 'import math\n\n"""What is below."""\n'),
    ],
)
def test_wording_and_layout_mean_nothing(old, new):
    assert old in TEXT
    assert code.meaning(TEXT.replace(old, new)) == code.meaning(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a # b", "a # c"),
        ("'.2f'", "'.3f'"),
        ("ä # no comment", "ä # no comments"),
        ("comment\n\n    second", "comment\n    second"),
        ("comment\n\n    second", "comment\n\n     second"),
        ("radius < 0", "radius <= 0"),
        ("ValueError", "TypeError"),
        ("    title = ", "        title = "),
        ("radius**2", "radius**3"),
        ("shown: bool = False", "shown: bool = True"),
    ],
)
def test_anything_else_means_something(old, new):
    assert old in TEXT
    assert code.meaning(TEXT.replace(old, new)) != code.meaning(TEXT)


def test_descriptions_of_parameters_mean_nothing_and_defaults_do():
    text = 'x: int = Field(1, description="one " f"{two}", gt=0)\ncommand.add_argument("--x", help="three")\n'
    assert code.meaning(text.replace("one", "1").replace("three", "3")) == code.meaning(text)
    assert code.meaning(text.replace("(1,", "(2,")) != code.meaning(text)
    assert code.meaning(text.replace("--x", "--y")) != code.meaning(text)


def package(folder, **modules):
    """Write a package of some modules and return the folder that it lies in."""
    for name, text in {"__init__": "", **modules}.items():
        path = folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder.parent


def test_imports_are_followed_into_a_package_of_others(tmp_path, monkeypatch):
    package(
        tmp_path / "plugin",
        defense="from . import helper\nfrom plugin.more import NUMBER\nimport json\nfrom redoubt import rows\n",
        helper='if TYPE_CHECKING:\n    from plugin import other\nelse:\n    second = lazy("plugin.second")\n',
        more="NUMBER = 1\n",
        second="",
        other="",
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = code.closure("plugin.defense")
    assert {"plugin", "plugin.defense", "plugin.helper", "plugin.more", "plugin.second", "redoubt.rows"} <= set(found)
    assert "plugin.other" not in found  # its names are for type checkers alone
    assert not [name for name in found if name.startswith("json")]


def test_the_digest_is_that_of_what_is_reached_wherever_it_lies(tmp_path):
    modules = {"a": "from redoubt import b\n", "b": "X = 1\n", "c": "Y = 1\n", "errors": "Z = 1\n"}
    folders = [package(tmp_path / name / "redoubt", **modules) for name in ("one", "two", "three", "four")]
    (folders[1] / "redoubt/c.py").write_text("Y = 2\n")
    (folders[2] / "redoubt/b.py").write_text("X = 2\n")
    (folders[3] / "redoubt/a.py").write_text("from redoubt import b, errors\n")
    digests = [code.digest("redoubt.a", source=folder) for folder in folders]
    assert digests[0] == digests[1] and len(set(digests)) == 3
    assert "redoubt.errors" not in code.closure("redoubt.a", source=folders[3])


def test_what_the_package_itself_offers_is_code_of_no_job(tmp_path):
    folders = [package(tmp_path / name / "redoubt", a="X = 1\n", b="") for name in ("one", "two")]
    (folders[1] / "redoubt/__init__.py").write_text('__version__ = "2"\nOFFERED = {"b": "b"}\n')
    assert len({code.digest("redoubt.a", source=folder) for folder in folders}) == 1


def test_modules_without_meaning_exist_and_are_left_out():
    for name in code.WITHOUT_MEANING:
        assert code.module_file(name) is not None, name
    found = code.closure("redoubt.steps.train", "redoubt.steps.attack", "redoubt.steps.download")
    assert not set(code.WITHOUT_MEANING) & set(found) and "redoubt.data.fetch" in found


def test_the_text_that_counts_is_cut_the_same_by_every_minor_version_of_python():
    tokens = code.meaning(TEXT)  # Python 3.12 and later split f-strings
    assert "\ntitle\n=\nf\"a # b {radius:{'.2f'}} \\N{BULLET}\"\n<NEWLINE>\n" in tokens
    assert "raise\nValueError\n(\n,\nradius\n)\n<NEWLINE>\n<DEDENT>\n" in tokens
    assert hashlib.sha256(tokens.encode()).hexdigest()[:16] == "c5348272c1fe9444"


@pytest.mark.skipif(not OTHERS, reason="no other Python 3.11 or later is installed")
def test_other_pythons_find_the_same_digest():
    script = "from redoubt.graph import code; print(code.digest('redoubt.graph.jobs', 'redoubt.attacks.spatial'))"
    run = partial(subprocess.run, cwd=ROOT, env={"PYTHONPATH": "src"}, capture_output=True, text=True, check=True)
    assert len({run([python, "-c", script]).stdout for python in (sys.executable, *OTHERS)}) == 1
