"""Mistakes in the config end the run with one line, before any job starts."""

import pytest
from redoubt_tree import ATTACKS, MODELS, tiny_copy

STUDY = "config/studies/deepdefense/study.yaml"
MISTAKES = {
    "defense": (
        "defense: parseval",
        "defense: deepdefence",
        f"{MODELS}: models.digits-mlp-parseval.defense: 'deepdefence' is not one of ",
    ),
    "unknown-key": (
        "    start: digits-mlp-reference\n    defense: clean",
        "    start: digits-mlp-reference\n    colour: red\n    defense: clean",
        f"{MODELS}: models.digits-mlp-clean.colour: unknown key",
    ),
    "unknown-parameter": (
        "beta: 0.0001",
        "betta: 0.0001",
        f"{MODELS}: models.digits-mlp-parseval.parameters.betta: unknown key",
    ),
    "wrong-type": ("epochs: 1", "epochs: soon", f"{MODELS}: baselines.digits-mlp-reference.training.epochs: 'soon': "),
    "unknown-attack": (
        "- attack: fgs-half",
        "- attack: fgs-third",
        f"{ATTACKS}: evaluations.1.attack: 'fgs-third' is not one of ",
    ),
    "unknown-start": (
        "start: digits-mlp-reference\n    defense: clean",
        "start: digits-cnn-reference\n    defense: clean",
        f"{MODELS}: models.digits-mlp-clean.start: 'digits-cnn-reference' is not ",
    ),
    "key-given-twice": ("title: A tiny study", "title: A tiny study\ntitle: Another", STUDY),
    "not-yaml": ("models:\n", "models: [\n", MODELS),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The tiny study, never run."""
    return tiny_copy(tmp_path_factory.mktemp("errors") / "redoubt")


def refused(tree, *arguments):
    """Return the one line with which Snakemake refuses to start."""
    done = tree.snakemake(*arguments, check=False)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in text
    assert not (tree.folder / "results").exists()
    chatter = ("Using workflow specific profile", "Config file ")  # Snakemake's own, before it reads the rules
    (line,) = [line for line in text.splitlines() if line.strip() and not line.startswith(chatter)]
    return line


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_study_is_one_line(tree, name):
    old, new, expected = MISTAKES[name]
    file = expected.partition(":")[0]
    text = tree.replace(file, old, new)
    try:
        line = refused(tree)
    finally:
        tree.write(file, text)
    assert line.removeprefix("error: ").startswith(expected)
    if name == "key-given-twice":
        assert "title" in line and "twice" in line


def test_unknown_scale_is_one_line(tree):
    line = refused(tree, "--config", "scale=poster")
    assert "config/config.yaml: scale: 'poster'" in line
    assert "demo" in line and "laptop" in line and "paper" in line


def test_unknown_study_is_one_line(tree):
    assert "there is no config/studies/nosuch/study.yaml" in refused(tree, "--config", "studies=[nosuch]")
