"""What pages say of the papers' claims agrees with the reference runs."""

from pathlib import Path

import pytest

from redoubt.errors import RedoubtError
from redoubt.tools import verdicts, worlds

ROOT = Path(__file__).resolve().parents[2]
FOUND = verdicts.claims(ROOT / verdicts.REFERENCE)
GENERATED = (verdicts.PAGE.name, worlds.PAGE.name)  # pages that list claims themselves
PAGES = [ROOT / "README.md", ROOT / "results/reference/README.md", *sorted((ROOT / "docs").glob("*.md"))]
HEADER = "study,claim,statement,where,verdict,published_verdict,evidence\n"


@pytest.fixture
def reference(tmp_path):
    rows = {
        "laptop": "s,claim-1,One | two.,table 1,holds,not-run,e\ns,claim-2,Three.,text,not-run,fails,e\n",
        "paper": "s,claim-1,One | two.,table 1,fails,not-run,e\ns,claim-10a,Four.,text,holds,holds,e\n",
    }
    for scale, text in rows.items():
        (tmp_path / scale).mkdir()
        (tmp_path / scale / "claims.csv").write_text(HEADER + text)
    return verdicts.claims(tmp_path)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: page.name)
def test_claims_in_prose_have_the_verdict_of_their_run(page):
    assert verdicts.problems(page.read_text(encoding="utf-8"), FOUND) == []


def test_generated_tables_are_in_step():
    assert (ROOT / verdicts.PAGE).read_text(encoding="utf-8") == verdicts.page(FOUND)
    text = (ROOT / verdicts.README).read_text(encoding="utf-8")
    assert verdicts.filled(text, verdicts.summary(FOUND)) == text
    assert sum(len(rows) for rows in FOUND.values()) > 50


@pytest.mark.parametrize(
    "text",
    [
        "So `paper/s/claim-1` fails here.",
        "As `laptop/s/claim-1`\nholds, so `paper/s/claim-10a` holds.",
        "Here `laptop/s/claim-2` is not\nrun.",
        "The claim holds for 8 images; claims of 2 papers.",
    ],
)
def test_sentences_that_agree(text, reference):
    assert verdicts.problems(text, reference) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So `paper/s/claim-1` holds.", "paper/s/claim-1 'holds': its claims.csv says fails"),
        ("`laptop/s/claim-2` holds", "laptop/s/claim-2 'holds': its claims.csv says not-run"),
        ("`laptop/s/claim-3` holds.", "laptop/s/claim-3: results/reference has no such claim"),
        ("and with them claim-10.", "'claim-10' has no verdict: write `scale/study/claim-1` holds (or fails, "),
        ("claims 8 and 9 hold", "'claims 8' has no verdict"),
        ("what claim\n4 reports", "'claim\\n4' has no verdict"),
        ("`paper/s/claim-1` does not hold", "paper/s/claim-1 'does not hold': its claims.csv says fails"),
        ("`paper/s/claim-1` (fails)", "'claim-1' has no verdict"),
    ],
)
def test_sentences_that_do_not(text, expected, reference):
    (problem,) = verdicts.problems(text, reference)
    assert problem.startswith(expected)


def test_tables_by_hand(reference):
    assert list(reference) == ["paper", "laptop"]
    assert verdicts.summary(reference).splitlines()[2:] == [
        "| `paper/s` | holds | 10a |",
        "| `paper/s` | fails | 1 |",
        "| `laptop/s` | holds | 1 |",
    ]
    assert verdicts.page(reference).split("\n\n")[-1].splitlines() == [
        "| claim | of the paper | printed | paper | laptop |",
        "| --- | --- | --- | --- | --- |",
        r"| claim-1 | One \| two. (table 1) | – | fails | holds |",
        "| claim-10a | Four. (text) | holds | holds | – |",
        "| claim-2 | Three. (text) | fails | – | – |",
    ]


def test_a_page_that_has_lost_its_marks():
    with pytest.raises(RedoubtError, match="no lines"):
        verdicts.filled("no marks", "table")
