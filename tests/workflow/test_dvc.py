"""DVC around Snakemake: stages match the catalog, `restore` rebuilds nothing, `status` names what changed."""

import re
import shutil

import pytest
from redoubt_tree import ROOT, STUDY_FILE, Tree, tracked_copy

from redoubt import catalog as catalogs
from redoubt.steps import plan, restore

PARSEVAL = (
    "share: 0.3}\n    training: *training",
    "share: 0.3}\n    training: {<<: *training, learning_rate: 0.02}",
)


def stale(tree):
    """Return the stages that `dvc status` names."""
    return set(re.findall(r"^(\S+):$", tree.run("dvc", "status").stdout, re.MULTILINE))


def commit(tree, message):
    tree.run("git", "add", "-A")
    tree.run("git", "commit", "-q", "-m", message)


@pytest.fixture(scope="module")
def saved(finished_tree, tmp_path_factory):
    """The finished study, recorded, pushed to a remote in a folder, and committed."""
    folder = tmp_path_factory.mktemp("saved")
    shutil.copytree(finished_tree.folder, folder / "redoubt", symlinks=True)
    tree = Tree(folder / "redoubt")
    tree.run("git", "init", "-q")
    tree.run("dvc", "remote", "add", "-q", "-d", "store", folder / "store")
    assert "recorded 14 stages" in tree.run("python", "-m", "redoubt.steps.restore", "--save").stdout
    commit(tree, "results")
    assert not stale(tree)
    return tree


@pytest.fixture
def clone(saved, tmp_path):
    """A fresh clone with access to the remote, nothing pulled."""
    tree = Tree(tmp_path / "clone")
    saved.run("git", "clone", "-q", saved.folder, tree.folder)
    return tree


def test_targets_are_in_step_with_the_studies():
    assert (ROOT / plan.TARGETS).read_text(encoding="utf-8") == plan.targets_text(catalogs.load(ROOT)), (
        "run `python -m redoubt.steps.plan --targets`"
    )


def test_stages_of_the_project_are_those_of_the_catalog(tmp_path):
    tree = tracked_copy(tmp_path / "redoubt")
    tree.run("git", "init", "-q")
    listed = tree.run("dvc", "stage", "list", "--all", "--name-only").stdout.split()
    assert sorted(listed) == sorted(["plan", *restore.stages(catalogs.load(tree.folder))])
    assert {"table@deepdefense-table-1", "figure@deepdefense-figure-4"} <= set(listed)


def test_restore_rebuilds_nothing_and_a_table_is_redrawn_without_training(clone):
    done = clone.run("python", "-m", "redoubt.steps.restore")
    assert done.stdout.strip() == "restored 14 stages; nothing is left to be done"
    assert not clone.planned()
    assert not stale(clone)
    clone.replace(STUDY_FILE, "caption: Three models", "caption: All models")
    assert clone.planned("results/demo/deepdefense/table-1.csv") == {"table": 1}


def test_restore_refuses_results_of_another_config(clone):
    clone.replace(STUDY_FILE, *PARSEVAL)
    done = clone.run("python", "-m", "redoubt.steps.restore", check=False)
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert "defend@digits-mlp-parseval" in line


def test_a_changed_learning_rate_is_named_and_one_figure_is_rebuilt(clone):
    clone.run("python", "-m", "redoubt.steps.restore", "--with-data")
    clone.replace(STUDY_FILE, *PARSEVAL)
    assert stale(clone) == {"plan", "defend@digits-mlp-parseval"}
    before = clone.read("results/demo/deepdefense/figure-4.csv")
    other = clone.read("results/demo/models/digits-mlp-clean/seed-0/model.json")
    clone.run("dvc", "repro", "figure@deepdefense-figure-4")
    assert clone.read("results/demo/deepdefense/figure-4.csv") != before
    assert clone.read("results/demo/models/digits-mlp-clean/seed-0/model.json") == other
    assert not {"plan", "figure@deepdefense-figure-4", "defend@digits-mlp-clean"} & stale(clone)
