"""A copy of the tracked tree with a tiny study, driven through the real command lines."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import study_files

ROOT = Path(__file__).resolve().parents[2]

STUDY = """\
title: A tiny study
reference: nobody, never
baselines:
  digits-mlp-reference:
    dataset: mnist
    network: mlp
    preprocessing: identity
    training:
      epochs: 1
      batch_size: 50
      learning_rate: 0.01
      images: 200
      track: {images: 20}
      probes:
        - {probe: rho-2, parameters: {iterations: 2}}
        - {probe: logit-distances, every: 3}
    labels: {dataset: Digits, network: MLP, method: Reference}
models:
  digits-mlp-clean:
    like: digits-mlp-reference
    start: digits-mlp-reference
    defense: clean
    labels: {method: Clean}
  digits-mlp-parseval:
    like: digits-mlp-clean
    defense: parseval
    parameters: {beta: 0.0001, share: 0.3}
    training: {learning_rate: 0.01}
    labels: {method: Par. Train}
  digits-mlp-bounded:
    dataset: mnist
    network: mlp
    preprocessing: standardised
    defense: bounded-relu
    parameters: {bound: 2.0}
    training: {epochs: 1, batch_size: 50, learning_rate: 0.01, images: 200, track: {images: 20}}
    labels: {dataset: Digits, network: MLP, method: Bounded}
attacks:
  deepfool:
    attack: deepfool
    parameters: {iterations: 3}
    select: {images: 20}
  fgs-half:
    attack: fgs
    parameters: {error: 0.5}
    select: {images: 20}
evaluations:
  - attack: deepfool
    models: [digits-mlp-reference, digits-mlp-clean, digits-mlp-parseval]
  - attack: fgs-half
    models: [digits-mlp-parseval, digits-mlp-bounded]
artifacts:
  table-1:
    kind: table
    plot: metric-table
    title: Table 1
    caption: Three models under DeepFool.
    parameters:
      models: [digits-mlp-reference, digits-mlp-clean, digits-mlp-parseval]
      columns:
        - {label: Acc., metric: accuracy, attack: deepfool}
        - {label: rho_2, metric: {name: norm, order: l2, relative: true}, attack: deepfool}
  table-2:
    kind: table
    plot: metric-table
    title: Table 2
    caption: Two models under FGS, one of them from scratch.
    parameters:
      models: [digits-mlp-parseval, digits-mlp-bounded]
      columns:
        - {label: rho_inf, metric: {name: norm, order: linf, relative: true}, attack: fgs-half}
  figure-4:
    kind: figure
    plot: lines
    title: Figure 4
    caption: Two curves.
    parameters:
      x: {column: epoch, label: epoch}
      y: [{column: test_accuracy, label: accuracy}, {column: test_rho_2, label: $\\rho_2$}]
      panels:
        - {title: MLP, models: [digits-mlp-clean, digits-mlp-parseval]}
claims:
  claim-1:
    statement: Accuracy is a share.
    where: table 1
    checks:
      - {compare: "table-1[digits-mlp-clean, Acc.] >= 0"}
"""
SCALE = """\
stamp: "scale demo: a test"
comparable: false
threads: 1
stand_ins: {mnist: digits}
networks:
  mlp: {name: mlp, width: 0.05}
"""
PUBLISHED = "artifact,row,column,value,unit,note\ntable-1,digits-mlp-clean,Acc.,98.31,percent,\n"
MODELS, ATTACKS, ARTIFACTS = (f"config/studies/deepdefense/{part}.yaml" for part in ("models", "attacks", "artifacts"))
SCALE_FILE = "config/scales/demo.yaml"


def environment():
    """Return the environment of a user: this Python's tools first, one thread, no settings."""
    own = {
        key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "DVC", "REDOUBT", "PYTEST"))
    }
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    for name in ("AUTHOR", "COMMITTER"):
        own |= {f"GIT_{name}_NAME": "test", f"GIT_{name}_EMAIL": "test@example.org"}
    return {**own, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}


class Tree:
    """A working copy of the project."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def run(self, *command, check=True):
        """Run a command in the copy and return it when done; `check` asserts that it succeeds."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def snakemake(self, *arguments, check=True):
        """Run Snakemake on one core."""
        return self.run("snakemake", "--cores", "1", *arguments, check=check)

    def planned(self, *arguments):
        """Return how many jobs of each rule Snakemake would run now, `all` left out."""
        text = self.snakemake("-n", *arguments).stdout
        counts = Counter({rule: int(count) for rule, count in re.findall(r"^([a-z_]+) +(\d+)$", text, re.MULTILINE)})
        if not counts:
            assert "Nothing to be done" in text, text
        del counts["total"], counts["all"]
        return counts

    def commit(self, message):
        """Commit all changes."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def read(self, name):
        """Return the text of a file."""
        return (self.folder / name).read_text(encoding="utf-8")

    def write(self, name, text):
        """Write a file."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def replace(self, name, old, new, count=1):
        """Replace text that must be there in a file; return the text before."""
        text = self.read(name)
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new, count))
        return text


def untimed(page):
    """Return the report, as bytes, without the seconds that jobs took, which two runs do not share."""
    rest, times = re.subn(rb'(id="seconds">)[^<]*', rb"\1", page)
    assert times == 1
    return rest


def tracked_copy(folder):
    """Copy every file that git tracks or would track, as it is in the working tree; return the copy."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, Path(folder) / name
        if source.is_file() and not name.startswith(("results/", "tests/")) and name != "dvc.lock":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return Tree(folder)


def with_seeds(study):
    """Return a study whose models have seeds [0, 1, 2], but for one with [1], and with a transfer pair."""
    for model in re.findall(r"^  (digits-mlp-.+):$", study, re.MULTILINE):
        seeds = "[1]" if model.endswith("clean") else "[0, 1, 2]"
        study = study.replace(f"  {model}:\n", f"  {model}:\n    seeds: {seeds}\n", 1)
    models = "[digits-mlp-parseval, digits-mlp-bounded]"
    new = {
        "attacks:\n": "  fgs-transfer: {attack: fgs, parameters: {error: 0.5}, select: {images: 20}}\n",
        "evaluations:\n": f"  - {{attack: fgs-transfer, models: {models}, crafted_on: digits-mlp-clean}}\n",
        f"models: {models}\n      columns:\n": "        - {label: transfer, metric: accuracy, attack: fgs-transfer}\n",
    }
    for place, text in new.items():
        assert study.count(place) == 1, place
        study = study.replace(place, place + text)
    return study


def tiny_copy(folder, study=STUDY):
    """Return a copy of the project whose only study is the tiny one."""
    tree = tracked_copy(folder)
    for name, text in study_files.split(study).items():
        tree.write(name, text)
    tree.write(SCALE_FILE, SCALE)
    tree.write("config/scales/demo/deepdefense.yaml", "{}\n")  # nothing is changed for the tiny study
    tree.write("config/published/deepdefense.csv", PUBLISHED)
    config = re.sub(r"^studies:.*$", "studies: [deepdefense]", tree.read("config/config.yaml"), flags=re.MULTILINE)
    tree.write("config/config.yaml", config)
    tree.run("python", "-m", "redoubt.tools.dvc", "--targets")
    return tree


def clone_of(saved, folder):
    """Return a fresh clone of a tree with a copy of its DVC remote for its own, nothing pulled."""
    tree = Tree(folder / "clone")
    saved.run("git", "clone", "-q", saved.folder, tree.folder)
    shutil.copytree(saved.folder.parent / "store", folder / "store")
    tree.run("dvc", "remote", "modify", "-q", "store", "url", folder / "store")
    tree.commit("another remote")
    return tree
