"""A study outside the repository: its files, its methods, what an edit of them reruns, and mistakes in one line."""

import importlib
import shutil
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.graph import code
from redoubt.graph.jobs import Jobs
from redoubt.study import catalog
from redoubt.tools import campaign

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/trades"


@pytest.fixture(autouse=True)
def rooms(monkeypatch):
    """Leave the rooms of methods as they were."""
    for kind in registry.KINDS:
        package = importlib.import_module(f"redoubt.{kind}")
        monkeypatch.setattr(package, "__path__", list(package.__path__))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.endswith((".trades", ".trades_cnn", ".fresh")):
            parent, _, own = name.rpartition(".")
            del sys.modules[name]
            vars(sys.modules[parent]).pop(own, None)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the example, as a project; the working directory is its folder."""
    shutil.copytree(EXAMPLE, tmp_path / "trades", ignore=shutil.ignore_patterns("results", "logs", ".snakemake"))
    monkeypatch.chdir(tmp_path / "trades")
    return tmp_path / "trades"


def versions():
    """Return what decides each job, by its name."""
    return {job.name: (job.version, repr(job.entry)) for job in Jobs(catalog.load())}


def edited(path, old, new):
    """Return the jobs that an edit makes run again; the file is afterwards as it was."""
    before, text = versions(), path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = versions()
    path.write_text(text)
    return {name for name in {*before, *after} if after.get(name) != before.get(name)}


def error(changes=None):
    with pytest.raises(RedoubtError) as caught:
        catalog.load(changes=changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_example_takes_part_with_its_methods_numbers_and_changes(project):
    found = catalog.load()
    assert found.config.studies == ["trades"] and found.models["mnist-cnn-trades-6"].entry.defense.name == "trades"
    jobs = {job.name: job for job in Jobs(found)}
    training = jobs["defend/mnist-cnn-trades-6/seed-0"]
    assert {"redoubt.defenses.trades", "redoubt.networks.trades_cnn"} <= set(training.modules)
    assert found.models["cifar10-wrn-trades-1"].missing.endswith("cut at scale demo")
    assert ("trades", "claim-1") in found.claims and len(found.printed["trades"]) == 6
    assert training.stage is None and jobs["table/trades/table-5-mnist"].stage is None, "DVC keeps none of it"


def test_its_printed_numbers_count_in_a_campaign(project):
    assert campaign._worth(Jobs(catalog.load()))["table/trades/table-5-mnist"] == 1 + 2


def test_the_printed_set_up_is_that_of_the_paper(project):
    found = catalog.load(changes={"scale": "paper"})
    options = found.models["mnist-cnn-trades-6"].entry.defense.parameters
    assert options == {"epsilon": 0.3, "steps": 40, "step_size": 0.01}, "beta is 6 by default"
    assert found.models["cifar10-wrn-trades-1"].entry.defense.parameters["beta"] == 1.0
    assert found.attacks["trades-pgd20"].parameters == {
        "epsilons": [0.031],
        "steps": 20,
        "step_size": 0.003,
        "stop": False,
    }


def test_an_edit_of_its_defense_reruns_its_models_alone_and_a_comment_nothing(project):
    file = project / "defenses/trades.py"
    assert edited(file, '"""TRADES:', '"""The method TRADES:') == set()
    models = ("mnist-cnn-trades-6", "cifar10-wrn-trades-1", "cifar10-wrn-trades-6")
    trainings = {f"defend/{model}/seed-0" for model in models}
    assert edited(file, "START = 0.001", "START = 0.002") == trainings
    network = edited(project / "networks/trades_cnn.py", "FC-200 ReLU FC-200", "FC-200 ReLU FC-100")
    assert {"pretrain/mnist-cnn-normal/seed-0", "attack/mnist-cnn-trades-6/seed-0/trades-pgd40"} <= network
    assert not [name for name in network if "cifar10" in name]


def test_an_edit_of_a_printed_number_reruns_its_tables(project):
    found = edited(project / "published.csv", "96.07", "96.08")
    assert {name for name in found if not name.startswith("table")} == {"scorecard", "report"}


def test_a_path_is_relative_to_config_yaml_or_to_where_the_command_runs(project, monkeypatch):
    monkeypatch.chdir(project.parent)
    other = catalog.load("trades").models
    assert list(other) == list(catalog.load(ROOT, {"studies": ["./trades"]}).models)


def test_a_study_in_one_file(project):
    parts = [(project / f"{part}.yaml").read_text() for part in ("study", "models", "attacks", "artifacts", "ledger")]
    whole = project.parent / "one/mine.yaml"
    whole.parent.mkdir()
    whole.write_text("# A study.\n" + "\n".join(parts))
    shutil.copytree(project / "defenses", whole.parent / "defenses")
    shutil.copytree(project / "networks", whole.parent / "networks")
    shutil.copy(project / "published.csv", whole.with_suffix(".csv"))
    found = catalog.load(changes={"studies": [str(whole)], "scale": "paper"})
    same = catalog.load(changes={"scale": "paper"})
    assert found.config.studies == ["mine"]
    assert {key: model.entry for key, model in found.models.items()} == {
        key: model.entry for key, model in same.models.items()
    }
    assert found.printed["mine"] == same.printed["trades"]


def test_a_study_without_printed_numbers_needs_no_file_of_them(project):
    (project / "published.csv").unlink()
    assert catalog.load().printed == {"trades": []}


def test_methods_in_a_folder_that_the_config_names(project):
    (project.parent / "shared").mkdir()
    shutil.move(project / "defenses", project.parent / "shared/defenses")
    assert "defense: 'trades' is not one of" in error()
    (project / "config/config.yaml").write_text("studies: [..]\nplugins: [../../shared]\n")
    assert "mnist-cnn-trades-6" in catalog.load().models


def test_methods_of_installed_packages_are_found_by_entry_points(tmp_path, monkeypatch):
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package/__init__.py").touch()
    shutil.copy(EXAMPLE / "defenses/trades.py", tmp_path / "their_package/fresh.py")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("their-trades", "their_package.fresh", "redoubt.defenses")]
    points.append(EntryPoint("clean", "their_package.fresh", "redoubt.defenses"))
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in points if point.group == group])
    registry._installed.cache_clear()
    try:
        assert "their-trades" in registry.names("defenses")
        assert registry.method("defenses", "their-trades").START == 0.001
        assert registry.method("defenses", "clean").__name__ == "redoubt.defenses.clean", "ours has the name"
        assert "redoubt.defenses._on_images" in code.closure(registry.module_name("defenses", "their-trades"))
    finally:
        registry._installed.cache_clear()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "models.yaml",
            "beta: 6,",
            "alpha: 6,",
            "^models.yaml: models.mnist-cnn-trades-6.*alpha: unknown key",
        ),
        ("published.csv", "Acc.,99.48", "Accc.,99.48", "^published.csv"),
        ("scales/demo.yaml", "mnist-*", "mnits-*", "^scales/demo.yaml: overrides.0.models: 'mnits-"),
        ("defenses/trades.py", "DECLARES = ", "DECLARED = ", "defenses/trades.py: it lacks DECLARES"),
        (
            "config/config.yaml",
            "[..]",
            "[../nowhere]",
            "studies: ../nowhere: no such file, nor",
        ),
        ("config/config.yaml", "[..]", "[../Mine.yaml]", "'Mine': a study's name has lower case letters"),
        (
            "config/config.yaml",
            "studies: [..]",
            "plugins: [../none]\nstudies: [..]",
            "plugins: ../none: no such folder",
        ),
    ],
)
def test_mistakes_are_reported_with_the_files_that_the_user_knows(project, file, old, new, message):
    path = project / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RedoubtError, match=message):
        catalog.load()
    assert ".snakemake" not in error() and "config/studies/trades" not in error()


def test_a_method_of_ours_is_not_replaced(project):
    (project / "defenses/clean.py").write_text("")
    assert "defenses/clean.py: Redoubt has defenses/clean.py too; rename it" in error()
