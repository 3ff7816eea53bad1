"""Copies of the tracked tree with a tiny study."""

import shutil

import pytest
from redoubt_tree import Tree, tiny_copy


@pytest.fixture(scope="session")
def finished_tree(tmp_path_factory):
    """The tiny study after a full run; tests leave it untouched."""
    tree = tiny_copy(tmp_path_factory.mktemp("finished") / "redoubt")
    tree.snakemake()
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
