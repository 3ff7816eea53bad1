"""Copies of the tracked tree with a tiny study."""

import shutil

import pytest
from redoubt_tree import STUDY, Tree, clone_of, tiny_copy, with_seeds


@pytest.fixture(scope="session")
def finished_tree(tmp_path_factory):
    """The tiny study after a full run; tests leave it untouched."""
    tree = tiny_copy(tmp_path_factory.mktemp("finished") / "redoubt")
    tree.run("python", "-m", "redoubt.graph.warm", "snakemake", "--cores", "1")
    return tree


@pytest.fixture
def finished(finished_tree, tmp_path):
    """A copy of the finished tiny study, times and Snakemake's records included, to be changed at will."""
    shutil.copytree(finished_tree.folder, tmp_path / "redoubt", symlinks=True)
    return Tree(tmp_path / "redoubt")


@pytest.fixture
def tiny(tmp_path):
    """The tiny study, nothing run yet."""
    return tiny_copy(tmp_path / "redoubt")


def save(tree, store):
    """Record the results of a tree, push them to a remote in a folder, and commit; return what was said."""
    tree.run("git", "init", "-q")
    tree.run("dvc", "remote", "add", "-q", "-d", "store", store)
    said = tree.run("python", "-m", "redoubt.tools.restore", "--save").stdout
    tree.commit("results")
    return said


@pytest.fixture(scope="session")
def saved(finished_tree, tmp_path_factory):
    """The finished study, recorded, pushed to a remote in a folder, and committed; tests leave it untouched."""
    folder = tmp_path_factory.mktemp("saved")
    shutil.copytree(finished_tree.folder, folder / "redoubt", symlinks=True)
    tree = Tree(folder / "redoubt")
    assert "recorded 16 stages" in save(tree, folder / "store")
    return tree


@pytest.fixture(scope="session")
def saved_seeds(tmp_path_factory):
    """The study with three seeds and a transfer pair, run, recorded and pushed; and how many jobs ran of each rule."""
    folder = tmp_path_factory.mktemp("seeds")
    tree = tiny_copy(folder / "redoubt", with_seeds(STUDY))
    planned = tree.planned()
    tree.run("python", "-m", "redoubt.graph.warm", "snakemake", "--cores", "1")
    save(tree, folder / "store")
    return tree, planned


@pytest.fixture
def clone(saved, tmp_path):
    """A fresh clone with a copy of the remote for its own, nothing pulled."""
    return clone_of(saved, tmp_path)
