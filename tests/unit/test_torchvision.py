"""torchvision can be imported beside a torch that its compiled operators do not fit."""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


ALONE = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Torchvision' not in type(f).__name__]\n"
"""Without the copy that .venv may have."""


def python(code, *paths):
    given = {"PYTHONPATH": ":".join(map(str, paths)), "PATH": "/usr/bin"}
    return subprocess.run([sys.executable, "-c", ALONE + code], env=given, capture_output=True, text=True)


def test_a_network_of_torchvision_is_made_after_redoubt_is_imported():
    code = "import torch, redoubt, torchvision; print(len(list(torchvision.models.resnet18().parameters())))"
    done = python(code, SOURCE)
    assert done.stdout == "62\n", done.stderr[-1000:]


def test_redoubt_imports_neither_torch_nor_torchvision():
    done = python("import redoubt, sys; print('torch' in sys.modules, 'torchvision' in sys.modules)", SOURCE)
    assert done.stdout == "False False\n"


def test_operators_that_load_are_left_alone(tmp_path):
    """A library that loads declares the operators itself; to declare them twice would end the process."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "_C.so").touch()
    (package / "__init__.py").write_text("import torch\nprint(torch.ops.torchvision.nms.default._schema)\n")
    loads = """
import redoubt, torch
kept = torch.library.Library("torchvision", "FRAGMENT")
def load(path):
    assert path.endswith("_C.so"), path
    kept.define("nms(Tensor dets) -> Tensor")
    kept.define("qnms(Tensor dets) -> Tensor")
torch.ops.load_library = load
import torchvision
"""
    assert python(loads, SOURCE, tmp_path).stdout == "torchvision::nms(Tensor dets) -> Tensor\n"
    (package / "_C.so").unlink()
    done = python("import redoubt, torchvision", SOURCE, tmp_path)
    assert done.stdout.startswith("torchvision::nms(Tensor dets, Tensor scores, float iou_threshold)"), done.stderr
