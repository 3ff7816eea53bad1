"""The command `redoubt`: what each command refuses in one line, and does."""

import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import redoubt
from redoubt.commands import __main__ as command
from redoubt.commands import attack, new, run, show
from redoubt.errors import RedoubtError
from redoubt.graph import project

ROOT = Path(__file__).resolve().parents[2]
NET = """
import torch
from beside import CLASSES

class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(16, CLASSES))

odd = 3
"""


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Return a file with a network, its weights, images, and the options that name them."""
    torch.manual_seed(0)
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "beside.py").write_text("CLASSES = 3\n")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
    torch.save(network.state_dict(), tmp_path / "net.pt")
    images = torch.rand(12, 1, 4, 4)
    np.savez(tmp_path / "images.npz", images=images.numpy(), labels=network(images).argmax(1).numpy())
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield (
        [
            *("--model", f"{tmp_path}/own_net.py:Net", "--weights", f"{tmp_path}/net.pt", "--data"),
            *(f"{tmp_path}/images.npz", "--images", "10", "--out", f"{tmp_path}/rows.csv"),
        ],
        (network, images[:10]),
    )
    for name in ("own_net", "beside"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["evaluate", "--help"]])
def test_help_takes_no_time(words):
    code = f"import sys\nfrom redoubt.commands.__main__ import main\ntry: main({words})\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'pandas', 'snakemake', 'yaml', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True)
    assert done.stderr == b"[]\n" and len(done.stdout) > 10


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as end:
        command.main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and f"usage: redoubt {name}" in text and len(text.splitlines()) > 6


def test_a_model_in_a_file_is_evaluated(given, tmp_path, capsys):
    options, (network, images) = given
    assert command.main(["evaluate", *options, "--epsilon", "1/10", "--queries", "60"]) == 0
    expected = redoubt.evaluate(network, images, network(images).argmax(1), epsilon=0.1, queries=60)
    printed = capsys.readouterr().out
    assert f"{100 * expected.accuracy:.1f} %" in re.search(r"worst of all.*", printed)[0]
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert (rows["adversarial_label"] == expected.rows["adversarial_label"]).all() and len(rows) == 30


def test_values_are_fractions_as_in_a_study():
    assert attack.parameter("epsilons=[0.5/255,-8/255,1]") == ("epsilons", [0.5 / 255, -8 / 255, 1])
    assert attack.parameter("epsilons=1/0") == ("epsilons", "1/0")


def test_a_model_in_a_file_is_attacked(given, tmp_path, capsys):
    options, _ = given
    assert command.main(["attack", "pgd", "epsilons=[0,2/10]", "steps=5", "loss=log-odds", *options]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "pgd: accuracy 1.0000 at epsilon 0, 10 images" and "at epsilon 0.2, 10 images" in printed[1]
    assert set(pd.read_csv(tmp_path / "rows.csv")["epsilon"]) == {0.0, 0.2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--model": "net"}, r"--model: 'net': FILE.py:NAME or package.module:NAME is expected"),
        ({"--model": "gone.py:Net"}, r"--model: gone\.py: no such file"),
        (
            {"--model": "{}/own_net.py:Nut"},
            "made: AttributeError: module 'own_net' has no attribute 'Nut'",
        ),
        ({"--model": "{}/own_net.py:odd"}, "it cannot be made: TypeError: 'int' object is not callable"),
        ({"--model": "collections:OrderedDict"}, "it makes a OrderedDict; a torch.nn.Module is expected"),
        ({"--weights": "gone.pt"}, r"gone\.pt: no such file"),
        ({"--data": "gone.npz"}, r"--data: gone\.npz: no such file or folder"),
        ({"--data": "{}/net.pt"}, r"no \.npz file with images and labels"),
        ({"--device": "cuda:99"}, "--device: cuda:99: "),
        ({"--threat": "l1"}, "threat: 'l1' is not one of linf, l2"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_told_in_one_line(changes, message, given, tmp_path):
    options = dict(zip(given[0][::2], given[0][1::2], strict=True))
    options |= {key: value.format(tmp_path) for key, value in changes.items()}
    with pytest.raises(RedoubtError, match=message):
        command.main(["evaluate", *(word for pair in options.items() for word in pair)])


def test_mistakes_in_an_attack_are_told_before_the_model_is_made():
    for words, message in ((["pdg"], "'pdg' is not one of"), (["pgd", "steps"], "'steps': KEY=VALUE is expected")):
        with pytest.raises(RedoubtError, match=message):
            command.main(["attack", *words, "--model", "gone.py:Net", "--data", "gone.npz"])


def test_snakemake_is_given_snakefile_profile_scale_and_the_rest():
    options = Namespace(scale="laptop", cores="2", rest=["-n", "deepdefense", "--config", "device=cpu"])
    line = run.command(options, None)
    assert line[:3] == [sys.executable, "-m", "snakemake"]
    assert line[line.index("--snakefile") + 1] == str(ROOT / "Snakefile")
    assert line[line.index("--workflow-profile") + 1] == str(ROOT / "profiles/default")
    assert line[-6:] == ["2", "-n", "deepdefense", "--config", "scale=laptop", "device=cpu"]
    options.rest, slurm = ["-n"], run.profile("slurm")
    assert run.command(options, slurm)[-5:] == ["--profile", str(slurm), "-n", "--config", "scale=laptop"]
    assert slurm == ROOT / "profiles/slurm"
    with pytest.raises(RedoubtError, match="'pbs' is not one of slurm, and no folder"):
        run.profile("pbs")


def test_the_report_is_found_from_a_folder_below(tmp_path, monkeypatch, capsys):
    opened: list[str] = []
    monkeypatch.setattr(show.webbrowser, "open", opened.append)
    (tmp_path / "config").mkdir()
    (tmp_path / project.CONFIG).write_text("scale: laptop\n")
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path / "notes")
    with pytest.raises(RedoubtError, match="no report yet; `redoubt run --scale laptop` makes it"):
        command.main(["show"])
    page = tmp_path / "results/demo/report/index.html"
    page.parent.mkdir(parents=True)
    page.touch()
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for screen, words in (("", []), (":0", ["--print"]), (":0", [])):
        monkeypatch.setenv("DISPLAY", screen)
        assert command.main(["show", "--scale", "demo", *words]) == 0
        assert capsys.readouterr().out == f"{page}\n"
    assert opened == [page.as_uri()]


def test_a_package_of_an_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "redoubt.study.reading", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(RedoubtError, match=r"yaml is not installed; pip install 'redoubt\[pipeline\]'"):
        command.main(["show"])


def test_options_of_nobody_are_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["show", "--colour"])
    assert "unrecognized arguments: --colour" in capsys.readouterr().err


def test_a_method_is_held_to_the_checks_of_its_kind(monkeypatch):
    asked: list[list[str]] = []
    monkeypatch.setattr("redoubt.tools.conform.main", lambda words: asked.append(words) or 1)
    assert command.main(["conform", "pgd", "--parameters", '{"steps": 3}']) == 1
    assert asked == [["pgd", "--parameters", '{"steps": 3}', "--network", "mlp"]]


def test_a_project_is_made_once(tmp_path, capsys):
    assert command.main(["new", "project", str(tmp_path / "mine")]) == 0
    assert project.misplaced(tmp_path / "mine") is None
    with pytest.raises(RedoubtError, match="mine/config: it exists already"):
        command.main(["new", "project", str(tmp_path / "mine")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["defense", "My_Shield"], "a name has small letters, digits and single hyphens"),
        (["defense", "pgd-training"], "there is such a defense already"),
        (["study", "mine", "--defense", "nothing"], "'nothing' is not one of"),
        (["study", "deepdefense"], "config/studies/deepdefense: it exists already"),
    ],
)
def test_what_cannot_be_begun_is_told_in_one_line(words, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(RedoubtError, match=message):
        command.main(["new", *words])


def test_a_study_that_is_begun_is_listed_in_the_config(tmp_path, monkeypatch):
    command.main(["new", "project", str(tmp_path)])
    monkeypatch.chdir(tmp_path / "config")
    assert command.main(["new", "study", "my-paper"]) == 0
    assert re.search(r"(?m)^studies: \[.+, my_paper\]", (tmp_path / project.CONFIG).read_text())
    assert (tmp_path / "config/published/my_paper.csv").read_text() == new.PUBLISHED


def test_an_empty_project_has_what_is_begun_in_it(tmp_path, monkeypatch, capsys):
    command.main(["new", "project", str(tmp_path), "--empty"])
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path / "notes")
    for kind in ("defense", "metric"):
        assert command.main(["new", kind, "my-own"]) == 0
    assert "redoubt conform" in capsys.readouterr().out
    assert command.main(["new", "study", "my-paper", "--defense", "my-own"]) == 0
    config = (tmp_path / project.CONFIG).read_text()
    assert "\nstudies: [my_paper]\n" in config and config.count("\nplugins: [..]") == 1
    assert (tmp_path / "metrics/my_own.py").is_file()
    with pytest.raises(RedoubtError, match=r"defenses/my_own\.py: it exists already"):
        command.main(["new", "defense", "my-own"])


def test_a_method_goes_beside_a_study_that_lies_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/study.yaml").touch()
    monkeypatch.chdir(tmp_path / "mine")
    assert command.main(["new", "attack", "my-reach"]) == 0
    assert (tmp_path / "mine/attacks/my_reach.py").is_file()
    monkeypatch.setattr(new, "root_above", lambda start: ROOT)
    assert new.home_above(tmp_path) is None, "a checkout"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("studies: [..]\n", None),
        ("studies: [a]\nplugins: [../b, ..]\n", None),
        ("studies: [a]\nplugins: []\n", "studies: [a]\nplugins: [..]\n"),
        ("plugins: [../b] # own\n", "plugins: [../b, ..] # own\n"),
    ],
)
def test_methods_beside_the_config_are_named_once(config, expected):
    assert new.with_rooms(config) == (expected or config)


def test_a_method_needs_a_project(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "SHIPPED", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RedoubtError, match=r"no config/config\.yaml here or above; `redoubt new project` makes one"):
        command.main(["new", "metric", "my-share"])
