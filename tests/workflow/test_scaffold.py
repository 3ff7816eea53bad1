"""What `redoubt new` writes passes lint and contract tests as it is, and runs."""

import shutil
import subprocess
import sys

import pytest
from redoubt_tree import ROOT, environment, tracked_copy

NEW = {"defense": "my-shield", "attack": "my-reach", "network": "my-net", "metric": "my-share", "figure": "my-dots"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a checkout in which one of each has been begun."""
    tree = tracked_copy(tmp_path_factory.mktemp("scaffold"))
    shutil.copytree(ROOT / "tests", tree.folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for kind, name in NEW.items():
        run(tree, "redoubt.commands", "new", kind, name)
    run(tree, "redoubt.commands", "new", "study", "my-paper", "--defense", "my-shield", folder="docs")
    return tree


def run(tree, module, *words, folder="."):
    given = environment() | {"PYTHONPATH": str(tree.folder / "src")}
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, cwd=tree.folder / folder, env=given, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_what_is_begun_passes_lint_and_says_what_to_fill_in(checkout):
    written = list((checkout.folder / "src").rglob("my_*.py"))
    assert len(written) == len(NEW)
    assert all("FILL IN" in path.read_text() and "NAME" not in path.read_text() for path in written)
    folders = [str(checkout.folder / name) for name in ("src", "tests")]
    run(checkout, "ruff", "check", *folders)
    run(checkout, "ruff", "format", "--check", *folders)


def test_what_is_begun_passes_the_contract_tests(checkout):
    words = ["tests/contract", "tests/unit/test_artifacts.py", "-p", "no:cacheprovider", "-k", "my- or every or all_"]
    report = run(checkout, "pytest", *words, "-vv")
    for name in NEW.values():
        assert f"[{name}" in report or name == "my-share", name  # a metric is tried beside all others


def test_a_study_that_is_begun_runs_from_any_folder(checkout):
    run(checkout, "redoubt.commands", "run", "my_paper", "--quiet", "all", folder="docs")
    table = checkout.read("results/demo/my_paper/table-1.md")
    assert "| digits | MLP | my-shield |" in table and "not run" not in table
    assert not (checkout.folder / "docs/results").exists()
