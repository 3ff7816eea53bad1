"""The examples run as they are, far from the checkout, and say what their comments say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_models_are_evaluated_from_python_alone(tmp_path):
    given = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "examples/evaluate.py"]
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    plain, _, broken = done.stdout.partition("decided_by")
    assert "green    the white box finds no less than the black box" in plain and "\nred" not in plain
    assert "red      gradients are not zero: 0.0 %" in broken
    assert "(100, 3, 8, 8)" in broken and broken.count("worst of all") == 2
    assert not list(tmp_path.iterdir())
