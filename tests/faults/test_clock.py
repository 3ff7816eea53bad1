"""A clock that is set back: nothing is made again for it, and no edit goes unnoticed."""

import os
import time

import pytest
from redoubt_tree import ARTIFACTS

DAY = 86_400
LATER = {"scorecard": 1, "report_page": 1}
PUBLISHED = "config/published/deepdefense.csv"


@pytest.fixture(scope="module")
def tree(finished_study):
    """The finished study; each test leaves files and times as they were."""
    times = {path: path.stat().st_mtime for path in finished_study.folder.rglob("*") if path.is_file()}
    yield finished_study
    for path, then in times.items():
        if path.exists():
            os.utime(path, (then, then))


def age(tree, folder, days):
    """Move the times of all files below a folder by the given number of days."""
    for path in (tree.folder / folder).rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() + days * DAY,) * 2)


@pytest.mark.slow
@pytest.mark.fault("clock set back after a run", "Snakemake", "results from the future: nothing is made again")
def test_results_from_the_future_are_taken_as_they_are(tree):
    age(tree, "results", 1)
    assert not tree.planned()


@pytest.mark.slow
@pytest.mark.fault(
    "clock set back within a run",
    "Snakemake",
    "results older than their inputs, of the same content: nothing is made again",
)
@pytest.mark.parametrize("folder", ["results/demo/deepdefense", "results/demo/attacks", "results/demo/report"])
def test_results_older_than_their_inputs_are_taken_as_they_are(folder, tree):
    age(tree, "results", 0)
    age(tree, folder, -1)
    assert not tree.planned()
    age(tree, "results", 0)


@pytest.mark.slow
@pytest.mark.fault("clock set back before an edit", "Snakemake", "the edit is noticed, and what reads it is made again")
@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("src/redoubt/artifacts/lines.py", None, "\nEDITED = True\n", {"figure": 1, **LATER}),
        ("src/redoubt/report/templates/page.html.jinja", None, "<!-- a comment -->", {"report_page": 1}),
        (PUBLISHED, "98.31", "98.32", {"table": 2, "figure": 1, **LATER}),
        (ARTIFACTS, "caption: Two curves.", "caption: Both curves.", {"figure": 1, **LATER}),
    ],
)
def test_an_edit_from_the_past_is_noticed(name, old, new, expected, tree):
    age(tree, "results", 0)
    text = tree.read(name)
    tree.write(name, text + new if old is None else text.replace(old, new, 1))
    os.utime(tree.folder / name, (time.time() - 30 * DAY,) * 2)
    try:
        assert tree.planned() == expected
    finally:
        tree.write(name, text)
        os.utime(tree.folder / name, (time.time() - 30 * DAY,) * 2)
