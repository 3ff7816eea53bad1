"""The wheel: what it holds, what it needs, and the workflow run from it, far from any checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from redoubt_tree import ROOT

import redoubt

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHIPPED = ("Snakefile", "config", "envs", "profiles", "workflow")
ALONE = """
import sys
blocked = set(sys.argv[1].split(","))
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is of no extra that is installed", name=name)
sys.meta_path.insert(0, Blocker())
import torch, redoubt
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
done = redoubt.craft("pgd", net, torch.full((4, 3, 2, 2), 0.5), torch.zeros(4, dtype=torch.int64), epsilons=[0.1])
print(redoubt.__file__, redoubt.__version__, len(done.rows))
import numpy as np
from redoubt.commands import __main__ as command
open("own.py", "w").write("import torch; net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))")
torch.save(net.state_dict(), "net.pt")
np.savez("own.npz", images=np.full((4, 3, 2, 2), 128, np.uint8), labels=np.zeros(4, int))
options = "--model own.py:net --weights net.pt --data own.npz --epsilon 8/255 --queries 40"
assert command.main(["evaluate", *options.split()]) == 0
command.main(["new", "project", "mine"])
import os
os.chdir("mine")
try:
    command.main(["run", "-n"])
except redoubt.errors.RedoubtError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder that holds what `pip install` would put there, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("redoubt-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site, folder, *command, check=True):
    paths = [path for path in os.environ["PATH"].split(os.pathsep) if path != str(Path(sys.executable).parent)]
    given = os.environ | {
        "PYTHONPATH": str(site),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *paths]),
    }
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=check)


def needed(*names):
    """Return the packages that some packages need, themselves included, without extras."""
    found, todo = set(), [Requirement(name) for name in names]
    while todo:
        asked = todo.pop()
        name = canonicalize_name(asked.name)
        if name not in found and (asked.marker is None or asked.marker.evaluate({"extra": ""})):
            found.add(name)
            todo += [Requirement(line) for line in (distribution(asked.name).requires or []) if "extra ==" not in line]
    return found


def test_the_wheel_holds_what_the_checkout_has(site):
    for name in SHIPPED:
        for path in [ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (site / "redoubt/project" / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    for path in (ROOT / "src/redoubt").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (site / path.relative_to(ROOT / "src")).is_file(), path
    assert (site / "redoubt/py.typed").is_file()
    assert {path.name.split("-")[0] for path in site.iterdir()} == {"redoubt"}


def test_the_version_is_written_once(site):
    metadata = next(site.glob("*.dist-info/METADATA")).read_text()
    assert f"\nVersion: {redoubt.__version__}\n" in metadata
    assert f"\nversion: {redoubt.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {redoubt.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_core_alone_attacks_a_model(site, tmp_path):
    core = needed(*PROJECT["dependencies"]) | {"redoubt"}
    blocked = {
        top for top, owners in packages_distributions().items() if core.isdisjoint(map(canonicalize_name, owners))
    }
    assert {"yaml", "snakemake", "tqdm", "scipy"} <= blocked and "pydantic" not in blocked
    done = run(site, tmp_path, sys.executable, "-c", ALONE, ",".join(blocked), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, *evaluated = done.stdout.splitlines()
    assert first.split() == [str(site / "redoubt/__init__.py"), redoubt.__version__, "4"]
    assert any(line.startswith(" worst of all") for line in evaluated)
    assert evaluated[-1] == "snakemake is not installed; pip install 'redoubt[pipeline]'"


def test_the_workflow_runs_from_the_wheel(site, tmp_path):
    command = ["snakemake", "--snakefile", str(site / "redoubt/project/Snakefile"), "--cores", "1"]
    refused = run(site, tmp_path, *command, "--dry-run", check=False)
    assert f"error: {tmp_path} has no config/config.yaml" in refused.stderr
    shutil.copytree(site / "redoubt/project/config", tmp_path / "config")
    done = run(site, tmp_path, *command, "results/data/digits/meta.json", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "results/data/digits/test.safetensors").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {".snakemake", "config", "logs", "results"}
    planned = run(site, tmp_path, *command, "--dry-run", "--quiet", "rules").stdout
    assert "report_page" in planned
