"""A step reruns when, and only when, something that it really reads has changed."""

import json
import os
import signal
import subprocess
import time

import pytest
import study_files
from redoubt_tree import ARTIFACTS, ATTACKS, MODELS, environment

SCALE = "config/scales/demo.yaml"
RULE_OF_STEP = {"scorecard": 1, "report_page": 1}
PARSEVAL_ONLY = {"defend": 1, "attack": 2, "table": 2, "figure": 1, **RULE_OF_STEP}


@pytest.fixture(scope="module")
def tree(finished_tree):
    """The finished study; each test leaves it as it was."""
    return finished_tree


def test_full_run_ends_with_scorecard_claims_and_report(tree):
    for name in ("scorecard.csv", "claims.csv", "results.json", "report/index.html", "report/papers.md"):
        assert (tree.folder / "results/demo" / name).stat().st_size > 0
    assert "holds" in tree.read("results/demo/claims.csv")


def test_nothing_is_planned_after_a_run_nor_after_changes_without_meaning(tree):
    before = {name: tree.read(name) for name in (*study_files.split(""), SCALE)}
    reordered = study_files.read(tree.folder)
    for kind in ("attacks", "artifacts", "models"):
        reordered[kind] = {key: dict(reversed(entry.items())) for key, entry in reordered[kind].items()}
    for name in [*(tree.folder / "src").rglob("*.py"), *(tree.folder / "config").rglob("*.*")]:
        os.utime(name)
    assert not tree.planned(), "touched"
    study_files.write(tree.folder, reordered)
    assert not tree.planned(), "keys within entries reordered"
    tree.write(MODELS, before[MODELS].replace("models:\n", "# a comment\nmodels: # another\n", 1))
    tree.replace(SCALE, "threads: 1", "threads: 2")
    assert not tree.planned(), "comments and threads"
    for name, text in before.items():
        tree.write(name, text)


def test_a_new_attack_runs_alone(tree):
    text = tree.replace(ATTACKS, "evaluations:\n", "evaluations:\n  - {attack: fresh, models: [digits-mlp-clean]}\n")
    tree.replace(ATTACKS, "attacks:\n", "attacks:\n  fresh: {attack: deepfool, select: {images: 7}}\n")
    try:
        assert set(tree.planned()) <= {"attack"}
        rows = "results/demo/attacks/digits-mlp-clean/seed-0/fresh.parquet"
        assert tree.planned(rows) == {"attack": 1}
    finally:
        tree.write(ATTACKS, text)


CODE = "\n_MARK = 1\n"
NOTHING = {
    "comment": ("src/redoubt/defenses/parseval.py", "\n", "\n# a comment\n"),
    "comment-in-an-engine": ("src/redoubt/engines/foolbox.py", "\n", "\n\n\n# a comment\n"),
    "docstring": ("src/redoubt/defenses/__init__.py", '"""', '"""Other words. '),
    "docstring-of-progress-bars": ("src/redoubt/progress.py", '"""', '"""Other words. '),
    "wording-of-an-error": ("src/redoubt/attacks/fgs.py", 'raise RedoubtError("', 'raise RedoubtError("Alas: '),
    "wording-of-a-full-disk": ("src/redoubt/errors.py", "no space is left", "nothing is left"),
    "description-of-a-parameter": ("src/redoubt/defenses/parseval.py", 'description="', 'description="other words: '),
    "address-of-another-dataset": ("src/redoubt/data/sources.py", "master/data/fashion/", "main/data/fashion/"),
    "name-of-a-new-helper-of-networks": ("src/redoubt/networks/_new.py", None, '"""New."""\n\nNUMBER = 1\n'),
    "name-of-a-new-helper-of-attacks": ("src/redoubt/attacks/_new.py", None, '"""New."""\n\nNUMBER = 1\n'),
    "a-new-metric": ("src/redoubt/metrics/new.py", None, '"""New."""\n\nNUMBER = 1\n'),
}
MEANING = {
    "defense": ("src/redoubt/defenses/parseval.py", None, CODE, PARSEVAL_ONLY),
    "defense-that-changes-the-network": (
        "src/redoubt/defenses/bounded_relu.py",
        None,
        CODE,
        {"defend": 1, "attack": 1, "table": 1, **RULE_OF_STEP},
    ),
    "attack": ("src/redoubt/attacks/fgs.py", None, CODE, {"attack": 2, "table": 1, **RULE_OF_STEP}),
    "plot": ("src/redoubt/artifacts/lines.py", None, CODE, {"figure": 1, **RULE_OF_STEP}),
    "template-of-the-report": ("src/redoubt/report/templates/style.css", None, "\n", {"report_page": 1}),
    "printed-number": (
        "config/published/deepdefense.csv",
        "98.31",
        "98.30",
        {"table": 2, "figure": 1, **RULE_OF_STEP},
    ),
    "learning-rate-of-one-model": (
        MODELS,
        "{learning_rate: 0.01}",
        "{learning_rate: 0.02}",
        PARSEVAL_ONLY,
    ),
    "parameter-of-a-model-from-scratch": (
        MODELS,
        "{bound: 2.0}",
        "{bound: 3.0}",
        {"defend": 1, "attack": 1, "table": 1, **RULE_OF_STEP},
    ),
    "caption": (ARTIFACTS, "caption: Two curves.", "caption: Both curves.", {"figure": 1, **RULE_OF_STEP}),
}


@pytest.mark.parametrize("name", [*NOTHING, *MEANING])
def test_an_edit_plans_exactly_what_it_changes(tree, name, capsys):
    file, old, new, expected = MEANING[name] if name in MEANING else (*NOTHING[name], {})
    path = tree.folder / file
    text = path.read_text() if path.exists() else None
    if old is None:
        path.write_text((text or "") + new)
    else:
        tree.replace(file, old, new)
    os.utime(path, (0, 0))  # as of a copy that keeps dates, or a clock that was set back: an edit counts by its content
    try:
        planned = tree.planned()
    finally:
        path.unlink() if text is None else path.write_text(text)
    with capsys.disabled():
        print(f"\n{name:36}", ", ".join(f"{rule} {count}" for rule, count in planned.items()) or "nothing", end=" ")
    assert planned == expected


def test_nothing_is_planned_in_another_folder(finished):
    assert not finished.planned()


def test_only_declared_seeds_can_be_asked_for(tree):
    done = tree.snakemake("-n", "results/demo/models/digits-mlp-clean/seed-1/weights.safetensors", check=False)
    assert done.returncode != 0
    assert len([line for line in (done.stdout + done.stderr).splitlines() if "No rule to produce" in line]) == 1


def test_training_killed_midway_is_taken_up_again_with_the_same_bytes(finished):
    tree = finished
    folder = tree.folder / "results/demo/models/digits-mlp-parseval/seed-0"
    target = str((folder / "weights.safetensors").relative_to(tree.folder))
    tree.replace(
        MODELS,
        "{learning_rate: 0.01}",
        "{learning_rate: 0.01, epochs: 60}",
    )
    running = subprocess.Popen(
        ["snakemake", "--cores", "1", target],
        cwd=tree.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        state = _wait_for(tree.folder / "results/.resume", running)
    finally:
        os.killpg(running.pid, signal.SIGKILL)  # the workflow and the training step at once, as in a power cut
        running.wait()
    assert state.exists(), "the state outlives the job"
    assert not (folder / "weights.safetensors").exists()
    tree.snakemake("--unlock")
    tree.snakemake(target)
    resumed = (folder / "weights.safetensors").read_bytes()
    assert json.loads((folder / "model.json").read_text())["steps"] == 240
    (folder / "weights.safetensors").unlink()
    tree.snakemake(target)
    assert (folder / "weights.safetensors").read_bytes() == resumed


def _wait_for(root, running):
    """Return the first saved training state, once it is there."""
    end = time.monotonic() + 120
    while time.monotonic() < end and running.poll() is None:
        if found := list(root.glob("digits-mlp-parseval-*/state.safetensors")):
            return found[0]
        time.sleep(0.02)
    raise AssertionError("no training state was saved before the job ended")
