"""Where a run finds its sources: project, checkout, installed package."""

import pytest

from redoubt.errors import RedoubtError
from redoubt.graph import project


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Return a project with its own config, and an installed package."""
    package = tmp_path / "site/redoubt"
    for folder in (package / "project/workflow", tmp_path / "own/config", tmp_path / "own/notes/old"):
        folder.mkdir(parents=True)
    (tmp_path / "own" / project.CONFIG).touch()
    monkeypatch.setattr(project, "PACKAGE", package)
    monkeypatch.setattr(project, "SHIPPED", package / "project")
    return tmp_path / "own", package


def test_what_a_project_lacks_is_the_packages(places):
    own, package = places
    assert project.sources(own) == {
        "config": own / "config",
        "envs": package / "project/envs",
        "workflow": package / "project/workflow",
        "src/redoubt": package,
    }
    (own / "src/mine").mkdir(parents=True)
    assert "src" not in project.sources(own), "code of another package"
    (own / "src/redoubt").mkdir()
    assert project.sources(own)["src"] == own / "src" and "src/redoubt" not in project.sources(own)


def test_a_run_starts_in_a_project(places, tmp_path):
    own, package = places
    assert project.misplaced(own) is None
    assert "has no config/config.yaml" in project.misplaced(tmp_path)
    (own / "src/redoubt").mkdir(parents=True)
    assert f"{own} is not the checkout whose code runs" in project.misplaced(own)
    (own / "src/redoubt").rmdir()
    (own / "src/redoubt").symlink_to(package)
    assert project.misplaced(own) is None


def test_the_nearest_project_above_is_used(places, tmp_path, monkeypatch):
    own, _ = places
    assert project.root_above(own / "notes/old") == project.root_above(own) == own
    with pytest.raises(RedoubtError, match=r"no config/config\.yaml here or above"):
        project.root_above(tmp_path)
    monkeypatch.setattr(project, "SHIPPED", checkout := tmp_path / "checkout")
    (checkout / "src").mkdir(parents=True)
    assert project.root_above(tmp_path) == checkout, "the checkout that the code runs from"
