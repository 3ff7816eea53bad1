"""Surroundings that other people have: their locales, folder names and home folders."""

import pytest
from faulty import contents
from redoubt_tree import tiny_copy, untimed

from redoubt.layout import study_file

ASCII = ["env", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0", "LC_ALL=C"]
DEMO = ["python", "-m", "redoubt.graph.warm", "snakemake", "--cores", "1", "--quiet", "rules"]
WORDS = {"A tiny study": "Une étude ☃", "Two curves.": "Două curbe ☃.", "network: MLP": "network: é☃"}
SAME_BYTES = "all results have the same bytes as elsewhere, but for seconds in the report"
PAGE = "results/demo/report/index.html"


def in_words(folder):
    """Return the tiny study with words that ASCII and Latin-1 lack."""
    tree = tiny_copy(folder)
    for (old, new), part in zip(WORDS.items(), ("study", "artifacts", "models"), strict=True):
        tree.replace(study_file("deepdefense", part), old, new)
    return tree


def timeless(tree):
    """Return the digests of all results, and the report without the seconds that jobs took."""
    return {**contents(tree), PAGE: untimed(tree.read(PAGE).encode())}


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """What `timeless` returns of the study, made in the usual surroundings."""
    tree = in_words(tmp_path_factory.mktemp("usual") / "redoubt")
    tree.run("env", "PYTHONUTF8=1", *DEMO)
    return timeless(tree)


@pytest.mark.slow
@pytest.mark.fault("a locale that is not UTF-8", "make demo", SAME_BYTES)
def test_a_locale_that_is_not_utf8(usual, tmp_path):
    tree = in_words(tmp_path / "redoubt")
    tree.run(*ASCII, *DEMO)
    assert timeless(tree) == usual
    assert "Une étude ☃" in tree.read(PAGE)
    tree.run(*ASCII, "python", "-m", "redoubt.tools.summary")


@pytest.mark.slow
@pytest.mark.fault("a checkout in a folder whose name has a space and an apostrophe", "make demo", SAME_BYTES)
def test_a_space_and_an_apostrophe_in_the_path(usual, tmp_path):
    tree = in_words(tmp_path / "o'brien's folder")
    tree.run(*DEMO)
    assert timeless(tree) == usual


@pytest.mark.slow
@pytest.mark.fault("a home folder that is read-only", "make", "caches go to .snakemake/cache of the checkout")
def test_a_read_only_home(tmp_path):
    tree = tiny_copy(tmp_path / "redoubt")
    home = ["env", "-u", "XDG_CACHE_HOME", "HOME=/proc/nowhere"]
    assert tree.run(*home, "snakemake", "-n", check=False).returncode != 0
    done = tree.run(*home, "make", "--eval", "dry: ; snakemake -n", "dry")
    assert "report_page" in done.stdout and (tree.folder / ".snakemake/cache/snakemake").is_dir()
