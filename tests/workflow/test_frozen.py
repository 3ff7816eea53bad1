"""A run uses the sources as they were at its start, and the next one knows what changed meanwhile."""

import os
import subprocess
import time

from redoubt_tree import MODELS, environment

from redoubt.graph import snapshot as frozen
from redoubt.study import outside

SCALE = "config/scales/demo.yaml"
FGS = "src/redoubt/attacks/fgs.py"
BROKEN = '\nif "torch" in __import__("sys").modules:\n    raise SystemExit("changed while jobs were waiting")\n'


def wait_for(path, running):
    """Wait until a file is there while a run goes on."""
    end = time.monotonic() + 120
    while not path.exists():
        assert running.poll() is None and time.monotonic() < end, f"{path} was not written"
        time.sleep(0.02)


def test_sources_changed_during_a_run_are_used_by_the_next(finished):
    tree = finished
    tree.replace(MODELS, "learning_rate: 0.01\n", "learning_rate: 0.02\n")  # of all models but one
    planned = tree.planned()
    log = tree.folder / "logs/demo/pretrain/digits-mlp-reference/seed-0.log"
    log.unlink()
    running = subprocess.Popen(
        ["snakemake", "--cores", "1"], cwd=tree.folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    wait_for(log, running)
    tree.replace(MODELS, "share: 0.3", "share: 0.2")
    tree.write(FGS, tree.read(FGS) + BROKEN)
    scale = tree.read(SCALE)
    tree.write(SCALE, "no: scale\n")
    _, errors = running.communicate(timeout=400)
    assert running.returncode == 0, errors[-3000:]
    assert planned["pretrain"] and planned["attack"] == 4
    tree.write(SCALE, scale)
    # By its time the parseval model is newer than what it was not made from.
    assert tree.planned() == {"defend": 1, "attack": 3, "table": 2, "figure": 1, "scorecard": 1, "report_page": 1}


def test_equal_sources_are_one_copy_and_other_ones_another(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    root, folders = tmp_path / "project", ("config", "envs", "src/redoubt", "workflow")
    for folder in folders:
        (root / folder / "__pycache__").mkdir(parents=True)
        (root / folder / "a.txt").write_text("1")
        (root / folder / "__pycache__/a.pyc").write_text("1")
    (root / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    first = frozen.freeze(root)
    assert os.environ["PYTHONPATH"] == f"{first}/src{os.pathsep}elsewhere"
    found = {path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()}
    assert found == {f"{folder}/a.txt" for folder in folders}
    os.utime(first, (0, 0))
    assert frozen.freeze(root) == first and first.stat().st_mtime > time.time() - 60, "a copy in use stays young"
    (root / "config/a.txt").write_text("2")
    second = frozen.freeze(root)
    assert second != first and (first / "config/a.txt").read_text() == "1"
    os.utime(first, (0, time.time() - outside.KEEP_SECONDS - 60))
    frozen.freeze(root)
    assert [path.name for path in first.parent.iterdir()] == [second.name], "no old copy, no unfinished one"
