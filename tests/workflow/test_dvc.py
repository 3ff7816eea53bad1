"""DVC around Snakemake: stages match the catalog, `restore` rebuilds nothing, `status` names what changed."""

import re

from redoubt_tree import ROOT, STUDY_FILE, tracked_copy

from redoubt import catalog as catalogs
from redoubt.steps import plan, restore

PARSEVAL = (
    "share: 0.3}\n    training: *training",
    "share: 0.3}\n    training: {<<: *training, learning_rate: 0.02}",
)


STYLE = "src/redoubt/artifacts/style.py"


def stale(tree):
    """Return the stages that `dvc status` names."""
    return set(re.findall(r"^(\S+):$", tree.run("dvc", "status").stdout, re.MULTILINE))


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


def rules(done):
    """Return which rules the Snakemake runs of a command have run, each as often as it did."""
    return sorted(re.findall(r"^(?:local)?rule (\w+):$", done.stdout + done.stderr, re.MULTILINE))


def results(tree):
    """Return the bytes of all results by their place."""
    files = (tree.folder / "results/demo").rglob("*.*")
    return {str(path.relative_to(tree.folder / "results/demo")): path.read_bytes() for path in files if path.is_file()}


def changed(tree, before):
    """Return the results that are not what they were, plan files left out."""
    now = results(tree)
    return {name for name in now.keys() | before.keys() if now.get(name) != before.get(name) and "plan/" not in name}


def test_a_change_of_style_redraws_one_figure_alone(clone):
    clone.run("python", "-m", "redoubt.steps.restore")
    before = results(clone)
    clone.replace(STYLE, '"figure.dpi"', '"axes.facecolor": "#eeeeee",\n    "figure.dpi"')
    done = clone.run("dvc", "repro", "figure@deepdefense-figure-4")
    assert rules(done) == ["figure"]
    assert changed(clone, before) == {f"deepdefense/figure-4.{suffix}" for suffix in ("svg", "png")}
    assert "figure@deepdefense-figure-4" not in stale(clone)


def test_a_changed_learning_rate_makes_its_dependents_anew_and_nothing_else(clone):
    clone.run("python", "-m", "redoubt.steps.restore", "--with-data")
    clone.replace(STUDY_FILE, *PARSEVAL)
    assert stale(clone) == {"plan", "defend@digits-mlp-parseval"}
    before = results(clone)
    done = clone.run("dvc", "repro", "figure@deepdefense-figure-4")
    assert rules(done) == ["defend", "figure"]
    done = clone.run("dvc", "repro")
    assert rules(done) == ["attack", "attack", "report_page", "scorecard", "table", "table"]
    parseval = {
        f"models/digits-mlp-parseval/seed-0/{name}" for name in ("weights.safetensors", "model.json", "history.csv")
    }
    assert parseval <= changed(clone, before)
    assert not {name for name in changed(clone, before) if "digits-mlp-" in name and "parseval" not in name}
    assert not stale(clone)
