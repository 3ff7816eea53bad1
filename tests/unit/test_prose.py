"""What pages say of the papers' claims agrees with the reference runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from redoubt.errors import RedoubtError
from redoubt.tools import verdicts, worlds

ROOT = Path(__file__).resolve().parents[2]
FOUND, NOW = verdicts.claims(ROOT / verdicts.REFERENCE), verdicts.known(ROOT)
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
    assert (ROOT / verdicts.PAGE).read_text(encoding="utf-8") == verdicts.page(FOUND, NOW)
    text = (ROOT / verdicts.README).read_text(encoding="utf-8")
    assert verdicts.filled(text, verdicts.summary(FOUND, NOW)) == text
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


NEW_HEADER = "study,claim,dataset,statement,where,verdict,here,published_verdict,adaptive_verdict,n\n"


@pytest.fixture
def newer(reference, tmp_path):
    rows = [
        "s,claim-1,all,One | two.,table 1,not-comparable,not-run,holds,not-run,",
        "s,claim-1,MNIST,One | two.,table 1,not-comparable,holds,holds,fails,100",
        "s,claim-1,CIFAR-10,One | two.,table 1,not-comparable,undecided,holds,not-comparable,100",
        "s,claim-2,all,Worded otherwise.,text,fails,fails,fails,holds,100",
    ]
    for scale, n in (("gpu", 100), ("small", 20)):
        (tmp_path / scale).mkdir()
        text = "\n".join(rows).replace("100", str(n)).replace("holds,fails,20", "fails,fails,20")
        (tmp_path / scale / "claims.csv").write_text(NEW_HEADER + text + "\n")
    return verdicts.claims(tmp_path)


TODAY = {
    ("s", "claim-1"): verdicts.Known("", "One | two.", "table 1"),
    ("s", "claim-2"): verdicts.Known("Short", "Three.", "text"),
    ("s", "claim-10a"): verdicts.Known("Ten", "Four.", "text"),
    ("s", "claim-11"): verdicts.Known("Never run", "Five.", "text"),
}


def test_tables_by_hand(newer):
    assert list(newer) == ["paper", "gpu", "laptop", "small"]
    assert verdicts.summary(newer, TODAY).splitlines()[2:] == [
        r"| `s` | 1. One \| two. | holds | holds on MNIST | fails | `gpu` |",
        r"| `s` | 1. One \| two. | holds | undecided on CIFAR-10 | – | `gpu` |",
        "| `s` | 2. Short | fails | fails† | holds | `gpu` |",
        "| `s` | 10a. Ten | holds | holds | – | `paper` |",
    ]
    assert verdicts.page(newer, TODAY).split("\n\n")[-1].splitlines()[2:] == [
        r"| claim-1 | One \| two. (table 1) | holds | `paper`: fails; `gpu`: holds on MNIST; "
        "`gpu`: undecided on CIFAR-10; `laptop`: holds; `small`: holds on MNIST; `small`: undecided on CIFAR-10 "
        "| `gpu`: fails; `small`: fails |",
        "| claim-2 | Three. (text) | fails | `gpu`: fails†; `small`: fails† | `gpu`: holds; `small`: holds |",
        "| claim-10a | Four. (text) | holds | `paper`: holds | – |",
        "| claim-11 | Five. (text) | – | – | – |",
    ]


def test_a_verdict_under_strong_attacks_is_not_shown_where_no_number_is_under_an_attack(newer):
    bare = frozenset({"MNIST", "all"})
    now = {key: replace(claim, bare=bare) for key, claim in TODAY.items()}
    shown = [line.split(" | ")[-2] for line in verdicts.summary(newer, now).splitlines()[2:]]
    assert shown == ["–", "–", "holds", "–"]  # the third was worded otherwise: other checks, perhaps


def test_claims_without_a_number_under_an_attack_are_those_of_clean_images_and_times():
    found = {key for key, claim in NOW.items() if "all" in claim.bare}
    assert found == {
        ("deepdefense", "claim-2"),
        ("deepdefense", "claim-13"),
        ("peernets", "claim-1"),
        ("perceptual_prior", "claim-9"),
    }


def test_every_claim_of_the_studies_has_a_title_of_its_own():
    titles = [claim.title for claim in NOW.values()]
    assert all(titles)
    assert len({(study, claim.title) for (study, _), claim in NOW.items()}) == len(NOW) > 60


def test_a_page_that_has_lost_its_marks():
    with pytest.raises(RedoubtError, match="no lines"):
        verdicts.filled("no marks", "table")
