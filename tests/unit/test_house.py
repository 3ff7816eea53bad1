"""The house: lock, environments and schemas say the same thing as the code."""

import ast
import re
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml

from redoubt import registry
from redoubt.tools.schemas import FOLDER, pages, schemas

ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {"pytorch": "torch", "seaborn-base": "seaborn"}
IMPORTED_AS = {
    "PIL": "pillow",
    "seaborn": "seaborn-base",
    "sklearn": "scikit-learn",
    "torch": "pytorch",
    "yaml": "pyyaml",
}
WITH_TORCH = {"triton"}  # torch for a GPU brings it, and nothing needs it elsewhere


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def environment() -> tuple[dict[str, str], dict[str, str]]:
    """Return the versions that the conda environment asks of conda, and of pip inside it."""
    dependencies = yaml.safe_load((ROOT / "envs/redoubt.yaml").read_text())["dependencies"]
    plain = dict(item.split("=", 1) for item in dependencies if isinstance(item, str) and "=" in item)
    pip = dict(item.split("==") for group in dependencies if isinstance(group, dict) for item in group["pip"])
    return plain, {canonical(name): version for name, version in pip.items()}


def test_conda_environment_has_the_versions_of_the_lock():
    lock = {canonical(name): version for name, version in locked().items()}
    plain, pip = environment()
    assert plain.pop("python") == "3.11"
    for name, version in (plain | pip).items():
        assert lock[canonical(CONDA_NAMES.get(name, name))] == version, name
    assert len(plain) >= 15 and "foolbox" in pip


def test_conda_environment_has_all_that_the_sources_import():
    names = set()
    for path in (ROOT / "src/redoubt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "lazy":
                names.add(node.args[0].value)
    packages = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"redoubt"} - WITH_TORCH
    plain, pip = environment()
    assert {"torch", "foolbox", "yaml"} <= packages
    assert {canonical(IMPORTED_AS.get(name, name)) for name in packages} <= set(plain) | set(pip)


def test_pip_resolves_nothing_inside_the_conda_environment():
    plain, pip = environment()
    given = {"setuptools", *plain, *pip}  # conda's pip brings setuptools
    for name in pip:
        asked = [item for item in requires(name) or [] if "extra ==" not in item]
        assert {canonical(re.match(r"[\w.-]+", item)[0]) for item in asked} <= given, name


def test_lock_holds_every_direct_requirement():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    direct = [*project["dependencies"], *extras["dev"], *extras["fast"]]
    lock = {canonical(name) for name in locked()}
    missing = [item for item in direct if canonical(re.match(r"[\w.-]+", item)[0]) not in lock]
    assert not missing


@pytest.mark.parametrize(("path", "text"), pages().items(), ids=str)
def test_pages_of_methods_are_in_step_with_the_code(path, text):
    assert (ROOT / path).read_text() == text, "run `make format`"


@pytest.mark.parametrize("name", sorted(schemas()))
def test_schemas_are_in_step_with_the_records(name):
    assert (ROOT / FOLDER / name).read_text() == schemas()[name], "run `make format`"


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_method_declares_parameters_with_descriptions(kind):
    for name in registry.names(kind):
        module = registry.method(kind, name)
        if kind != "engines":
            assert module.Parameters.model_config["extra"] == "forbid"
        assert module.__doc__
