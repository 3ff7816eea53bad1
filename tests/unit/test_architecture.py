"""Rooms and floors: imports run downward, and docs/architecture shows them as they are."""

from pathlib import Path

import pytest

from redoubt.errors import RedoubtError
from redoubt.tools import architecture

ROOT = Path(__file__).resolve().parents[2]
NEVER = {
    "data": {"networks", "attacks"},
    "networks": {"data", "attacks", "defenses"},
    "metrics": {"data", "networks", "attacks"},
    "attacks": {"data", "engines", "defenses"},
    "defenses": {"data", "engines"},
    "artifacts": {"networks", "attacks", "defenses", "models"},
}


def test_imports_run_downward_and_never_in_a_circle():
    assert architecture.problems() == []


@pytest.mark.parametrize("room", NEVER)
def test_no_room_reaches_what_it_must_not_know(room):
    modules = architecture.modules()
    for name in modules:
        if architecture.room(name) == room:
            reached = {architecture.room(other) for other in architecture.reach(modules, name)}
            assert not reached & NEVER[room], name


def test_the_page_and_its_picture_show_the_imports():
    text = (ROOT / architecture.PAGE).read_text()
    assert text == architecture.page(text), "run `make format`"
    assert (ROOT / architecture.PICTURE).read_text() == architecture.picture(), "run `make format`"


def test_the_ground_floor_has_at_most_ten_modules():
    assert len([path for path in architecture.SOURCE.glob("*.py") if path.stem != "__init__"]) <= 10


def test_no_file_is_longer_than_400_lines():
    lengths = {path.name: path.read_text().count("\n") for path in architecture.SOURCE.rglob("*.py")}
    assert not {name: lines for name, lines in lengths.items() if lines > 400}


@pytest.fixture
def package(tmp_path):
    def write(**texts):
        source = tmp_path / "redoubt"
        for name, text in {"__init__": "", **texts}.items():
            file = source.joinpath(*name.split("__", 1)) if "__" in name.strip("_") else source / name
            file = file.with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "__init__.py").touch()
            file.write_text(text)
        return source

    return write


def test_plain_and_lazy_imports_are_arrows(package):
    source = package(
        attacks__fgs='from redoubt import files\nlosses = lazy("redoubt.networks.mlp")\nimport torch\n',
        networks__mlp="from redoubt.preprocessing import whitened\n",
        preprocessing__whitened="",
        files="",
    )
    assert architecture.arrows(source) == {
        "attacks": {architecture.GROUND, "networks"},
        "networks": {"preprocessing"},
        "preprocessing": set(),
        architecture.GROUND: set(),
    }
    assert architecture.problems(source) == []


def test_an_import_upward_a_circle_and_a_new_room_are_reported(package):
    source = package(
        data__fetch="import redoubt.study.config\n",
        study__config="import redoubt.data.fetch\n",
        networks__mlp="if TYPE_CHECKING:\n    import redoubt.study.config\n",
        cellar__wine="",
        files="import redoubt.study.config\n",
    )
    found = "\n".join(architecture.problems(source))
    assert "cellar: this room is on no floor" in found
    assert "redoubt.data.fetch imports redoubt.study.config: not on a lower floor" in found
    assert "redoubt.networks.mlp imports redoubt.study.config: not on a lower floor" in found  # beside is not below
    assert "redoubt.files imports redoubt.study.config: not on a lower floor" in found
    assert "redoubt.data.fetch -> redoubt.study.config -> redoubt.data.fetch: imports run in a circle" in found


def test_arrows_that_a_longer_way_implies_are_not_drawn():
    graph = {"steps": {"training", "attacks"}, "training": {"attacks"}, "attacks": {architecture.GROUND}}
    assert architecture.drawn({**graph, architecture.GROUND: set()}) == [("steps", "training"), ("training", "attacks")]


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(RedoubtError, match=r"no lines .* with the table between them"):
        architecture.page("# Architecture\n")
