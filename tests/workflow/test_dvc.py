"""DVC around Snakemake: stages match the catalog, `restore` rebuilds nothing, `status` names what changed."""

import json
import re
from collections import Counter

import pytest
from redoubt_tree import ARTIFACTS, MODELS, ROOT, clone_of, tracked_copy

from redoubt.graph.jobs import Jobs
from redoubt.study import catalog as catalogs
from redoubt.tools import dvc as plan
from redoubt.tools import restore

PARSEVAL = ("{learning_rate: 0.01}", "{learning_rate: 0.02}")


DEPENDENTS = {"defend": 1, "attack": 2, "table": 2, "figure": 1, "scorecard": 1, "report_page": 1}
STYLE = "src/redoubt/artifacts/_style.py"


def stale(tree):
    """Return the stages that `dvc status` names."""
    return set(re.findall(r"^(\S+):$", tree.run("dvc", "status").stdout, re.MULTILINE))


def test_targets_are_in_step_with_the_studies():
    assert (ROOT / plan.TARGETS).read_text(encoding="utf-8") == plan.targets_text(Jobs(catalogs.load(ROOT))), (
        "run `python -m redoubt.tools.dvc --targets`"
    )


def test_stages_of_the_project_are_those_of_the_catalog(tmp_path):
    tree = tracked_copy(tmp_path / "redoubt")
    tree.run("git", "init", "-q")
    listed = tree.run("dvc", "stage", "list", "--all", "--name-only").stdout.split()
    stages = [name for name in restore.stages(Jobs(catalogs.load(tree.folder))) if not name.endswith(".dvc")]
    assert sorted(listed) == sorted(["plan", *stages])
    assert {"table@deepdefense-table-1", "figure@deepdefense-figure-4"} <= set(listed)


def test_restore_rebuilds_nothing_and_a_table_is_redrawn_without_training(clone):
    done = clone.run("python", "-m", "redoubt.tools.restore")
    assert done.stdout.strip() == "restored 16 stages; nothing is left to be done"
    assert not clone.planned()
    assert not stale(clone)
    clone.replace(ARTIFACTS, "caption: Three models", "caption: All models")
    assert clone.planned("results/demo/deepdefense/table-1.csv") == {"table": 1}


def test_what_preprocessing_has_learned_is_restored_and_not_made_again_from_the_data(saved, clone):
    learned = [str(path.relative_to(saved.folder)) for path in saved.folder.glob("results/data/*/preprocessing/*")]
    assert len(learned) == 2
    clone.run("python", "-m", "redoubt.tools.restore", "--with-data")
    for name in learned:
        assert (clone.folder / name).read_bytes() == (saved.folder / name).read_bytes()
    assert [path.name for path in (clone.folder / "logs/benchmarks").iterdir()] == ["download"]  # of jobs that ran
    assert not clone.planned() and not stale(clone)


def test_what_preprocessing_learned_by_other_code_is_not_restored(clone):
    names = sorted((clone.folder / "prepared").iterdir())
    old = re.sub("made_from: .*", f"made_from: {'0' * 16}", names[0].read_text())
    names[0].write_text(old)
    done = clone.run("python", "-m", "redoubt.tools.restore")
    assert "restored 15 stages" in done.stdout
    assert len(list(clone.folder.glob("results/data/*/preprocessing/*"))) == 1
    names[1].write_text("outs: 3\n")
    done = clone.run("python", "-m", "redoubt.tools.restore", check=False)
    assert done.returncode == 2 and f"error: prepared/{names[1].name}: damaged (KeyError" in done.stderr


def test_restore_refuses_results_of_another_config(clone):
    clone.replace(MODELS, *PARSEVAL)
    done = clone.run("python", "-m", "redoubt.tools.restore", check=False)
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert "train@digits-mlp-parseval-seed-0" in line
    # What was made by the old config is gone, and what is left is known to Snakemake.
    assert clone.planned() == DEPENDENTS


def test_results_of_a_bare_pull_are_not_built_upon(clone):
    clone.run("dvc", "pull", "-q", "--allow-missing")
    clone.replace(MODELS, *PARSEVAL)
    done = clone.run("dvc", "repro", "figure@deepdefense-figure-4", check=False)
    assert done.returncode != 0 and "run `make restore SCALE=demo` first" in done.stderr
    assert rules(done) == []


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
    clone.run("python", "-m", "redoubt.tools.restore")
    before = results(clone)
    clone.replace(STYLE, '"figure.dpi"', '"axes.facecolor": "#eeeeee",\n    "figure.dpi"')
    done = clone.run("dvc", "repro", "figure@deepdefense-figure-4")
    assert rules(done) == ["figure"]
    assert changed(clone, before) == {f"deepdefense/figure-4.{suffix}" for suffix in ("svg", "png")}
    assert "figure@deepdefense-figure-4" not in stale(clone)


def test_one_figure_is_made_anew_with_what_it_shows(clone):
    clone.run("python", "-m", "redoubt.tools.restore", "--with-data")
    clone.replace(MODELS, *PARSEVAL)
    before = results(clone)
    done = clone.run("dvc", "repro", "figure@deepdefense-figure-4")
    assert rules(done) == ["defend", "figure"]
    new = changed(clone, before)
    assert {name.split("/")[1] for name in new} == {
        "digits-mlp-parseval",
        "figure-4.csv",
        "figure-4.svg",
        "figure-4.png",
    }
    assert not {"plan", "figure@deepdefense-figure-4", "train@digits-mlp-clean-seed-0"} & stale(clone)


@pytest.mark.parametrize(
    ("key", "trained"),
    [
        ("baselines.digits-mlp-reference.training.learning_rate", {"pretrain": 1, "defend": 2}),
        ("+models.digits-mlp-clean.training.learning_rate", {"defend": 1}),
    ],
)
def test_an_experiment_sets_a_key_and_makes_what_has_it_or_is_like_it(clone, key, trained):
    clone.run("python", "-m", "redoubt.tools.restore", "--with-data")
    before = clone.read(MODELS)
    done = clone.run("dvc", "exp", "run", "-S", f"{MODELS}:{key}=1/50", "figure@deepdefense-figure-4")
    assert Counter(rules(done)) == {**trained, "figure": 1}
    assert "learning_rate: 1/50" in clone.read(MODELS) != before  # as DVC has written the file again
    entries = Jobs(catalogs.load(clone.folder)).catalog.models
    changed = {name for name, model in entries.items() if model.entry.training.learning_rate == 0.02}
    assert changed == {"digits-mlp-clean"} | ({"digits-mlp-reference"} if "pretrain" in trained else set())


def test_every_run_is_saved_and_restored(saved_seeds, tmp_path):
    tree, ran = saved_seeds
    assert ran == {"download": 1, "prepare": 2, "pretrain": 3, "defend": 7, "attack": 19, "table": 2, "figure": 1} | {
        "scorecard": 1,
        "report_page": 1,
    }
    clone = clone_of(tree, tmp_path)
    done = clone.run("python", "-m", "redoubt.tools.restore")
    assert done.stdout.strip() == "restored 36 stages; nothing is left to be done"
    assert results(clone) == results(tree) and not clone.planned()
    source = json.loads(clone.read("results/demo/models/digits-mlp-parseval/seed-2/model.json"))
    assert source["seed"] == 2
    transferred = {name for name in results(clone) if name.endswith("fgs-transfer.parquet")}
    models = ("digits-mlp-parseval", "digits-mlp-bounded")
    assert transferred == {f"attacks/{model}/seed-{seed}/fgs-transfer.parquet" for model in models for seed in range(3)}


@pytest.fixture(scope="module")
def retrained(saved, tmp_path_factory):
    """A clone with another learning rate of one model, made again by DVC and committed.

    Beside it: which stages were stale, the results before, and the rules that ran.
    """
    tree = clone_of(saved, tmp_path_factory.mktemp("retrained"))
    tree.run("python", "-m", "redoubt.tools.restore", "--with-data")
    tree.replace(MODELS, *PARSEVAL)
    named, before = stale(tree), results(tree)
    ran = rules(tree.run("dvc", "repro"))
    tree.commit("another learning rate")
    return tree, named, before, ran


def test_a_changed_learning_rate_makes_its_dependents_anew_and_nothing_else(retrained):
    tree, named, before, ran = retrained
    assert named == {"plan", "train@digits-mlp-parseval-seed-0"}
    assert Counter(ran) == DEPENDENTS
    new = changed(tree, before)
    assert {f"models/digits-mlp-parseval/seed-0/{name}" for name in ("weights.safetensors", "history.csv")} <= new
    assert {"deepdefense/figure-4.csv", "deepdefense/table-1.csv", "metrics.json"} <= new
    assert not {name for name in new if "digits-mlp-" in name and "parseval" not in name}
    assert not stale(tree)


def test_metrics_of_two_commits_differ_in_the_cells_of_the_changed_model(retrained):
    tree, *_ = retrained
    told = json.loads(tree.run("dvc", "metrics", "diff", "--json", "HEAD~1").stdout)
    cells = {name for name in told["results/demo/metrics.json"] if name.startswith("cells.")}
    assert cells and all(name.startswith("cells.deepdefense.table-") for name in cells)
    assert {name.split(".")[3] for name in cells} == {"digits-mlp-parseval"}
    assert "cells.deepdefense.table-1.digits-mlp-parseval.rho_2" in cells
    parameters = tree.run("dvc", "params", "diff", "HEAD~1").stdout
    assert "models.digits-mlp-parseval.training.learning_rate" in parameters and "0.02" in parameters


def test_plots_of_two_commits_show_histories_and_the_scorecard(retrained):
    tree, *_ = retrained
    plots = json.loads(tree.run("dvc", "plots", "diff", "--json", "HEAD~1").stdout)["data"]
    places = {name.split("::")[-1]: parts for name, parts in plots.items()}
    (history,) = places["results/demo/models/digits-mlp-parseval/seed-0/history.csv"]
    curves = {}
    for row in history["content"]["data"]["values"]:
        curves.setdefault(row.pop("rev"), []).append(row)
    assert set(curves) == {"HEAD~1", "workspace"} and curves["HEAD~1"] != curves["workspace"], curves
    assert [row["epoch"] for row in curves["workspace"]] == ["0.0", "1.0"]
    text = json.dumps(history["content"])
    assert "digits-mlp-parseval, seed 0, scale demo" in text and "accuracy on tracked test images" in text
    (scorecard,) = places["results/demo/scorecard.csv"]
    assert "every number of every table, scale demo" in json.dumps(scorecard["content"])
    tree.run("dvc", "plots", "diff", "HEAD~1", "-o", "plots")
    assert "digits-mlp-clean, seed 0, scale demo" in tree.read("plots/index.html")
