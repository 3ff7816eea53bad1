"""`--use-conda` by Snakemake's own code, up to the solver: a stand-in for conda makes environments of this Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from redoubt_tree import ROOT, environment

ENVIRONMENT = "envs/redoubt.yaml"
CONDA = """\
#!{python} -IS
import json, os, pathlib, sys

arguments, base = sys.argv[1:], pathlib.Path(__file__).resolve().parents[1]
with open(base / "calls", "a") as file:
    file.write(" ".join(arguments) + "\\n")
if arguments == ["info", "--json"]:
    print(json.dumps({{"conda_prefix": str(base), "platform": "linux-64"}}))
elif arguments == ["--version"]:
    print("conda 25.7.0")
elif arguments == ["config", "--get", "channel_priority", "--json"]:
    print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
elif arguments[:2] == ["env", "create"]:
    if (base / "offline").exists():
        sys.exit("CondaHTTPError: HTTP 000 CONNECTION FAILED")
    folder = pathlib.Path(arguments[arguments.index("--prefix") + 1], "bin")
    folder.mkdir(parents=True)
    inside = folder / "python"
    inside.write_text(f'#!/bin/sh\\necho "$*" >> {{folder.parent}}/ran\\nexec {python} "$@"\\n')
    inside.chmod(0o755)
elif arguments[0] != "clean":
    sys.exit(f"not a call of conda that Snakemake makes: {{arguments}}")
"""
ACTIVATE = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n'
ROWS = "results/demo/attacks/digits-mlp-bounded/seed-0/fgs-half.parquet"


@pytest.fixture
def conda(tmp_path, monkeypatch):
    """A folder with a stand-in for conda, which is first on the path."""
    folder = tmp_path / "conda"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/conda").write_text(CONDA.format(python=sys.executable))
    (folder / "bin/conda").chmod(0o755)
    (folder / "bin/activate").write_text(ACTIVATE)
    return folder


def snakemake(tree, conda, *arguments):
    """Run Snakemake with conda at hand."""
    own = environment()
    own["PATH"] = f"{conda / 'bin'}{os.pathsep}{own['PATH']}"
    command = ["snakemake", "--cores", "1", "--use-conda", *arguments]
    return subprocess.run(command, cwd=tree.folder, env=own, capture_output=True, text=True)


def made(tree):
    """Return the environments that there are."""
    return [folder for folder in (tree.folder / ".snakemake/conda").glob("*") if folder.is_dir()]


def test_every_rule_that_runs_something_names_the_environment():
    text = "\n".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")])
    rules = {part.split(":", 1)[0]: part for part in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]}
    steps = {name for name, rule in rules.items() if "shell:" in rule}
    drawn = {"table", "figure", "figure_pdf", "scorecard", "report_page"}
    assert steps == {"download", "prepare", "pretrain", "attack", *drawn}
    for name in steps:
        (named,) = re.findall(r'conda:\s+"([^"]+)"', rules[name])
        assert (ROOT / "workflow/rules" / named).resolve() == ROOT / ENVIRONMENT, name


def test_a_plan_makes_no_environment(tiny, conda):
    done = snakemake(tiny, conda, "-n")
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(rf"Conda environment \S*{ENVIRONMENT} will be created", done.stdout + done.stderr)
    assert not made(tiny)
    assert "env create" not in (conda / "calls").read_text()


def test_jobs_run_inside_the_environment_and_find_the_package(tiny, conda):
    done = snakemake(tiny, conda, "--conda-create-envs-only", ROWS)
    assert done.returncode == 0, done.stderr[-2000:]
    (inside,) = made(tiny)
    (created,) = [line for line in (conda / "calls").read_text().splitlines() if line.startswith("env create")]
    asked = Path(re.search(r"--file (\S+)", created)[1])
    assert asked.read_bytes() == (ROOT / ENVIRONMENT).read_bytes()
    assert not (inside / "ran").exists()
    done = snakemake(tiny, conda, ROWS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tiny.folder / ROWS).is_file()
    ran = re.findall(r"-m redoubt\.steps\.(\w+) ", (inside / "ran").read_text())
    assert sorted(ran) == ["attack", "download", "prepare", "train"]
    assert not tiny.planned(ROWS), "the same packages without conda: nothing is made again"


def test_a_finished_run_is_not_made_anew_inside_the_environment(finished_tree, conda):
    done = snakemake(finished_tree, conda, "-n")
    assert "Nothing to be done" in done.stdout + done.stderr, done.stdout[-2000:]


def test_a_channel_out_of_reach_ends_the_run_and_leaves_nothing(tiny, conda):
    (conda / "offline").touch()
    done = snakemake(tiny, conda, ROWS)
    assert done.returncode != 0
    assert "Could not create conda environment from" in done.stdout + done.stderr
    assert "CONNECTION FAILED" in done.stdout + done.stderr
    assert not made(tiny) and not (tiny.folder / "results").exists()
