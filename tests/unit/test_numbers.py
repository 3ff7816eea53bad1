"""Numbers of pages are traced to files, and those that no file has are named."""

from pathlib import Path

import pytest

from redoubt.errors import RedoubtError
from redoubt.tools import numbers

ROOT = Path(__file__).resolve().parents[2]
CELLS = "row,published,reproduced,std,adaptive,n\na,0.9831,0.98276,0.0013,0.745,10000\nb,0.111,0.1094,,,123\n"


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "results/reference/paper"
    folder.mkdir(parents=True)
    (folder / "table-1.csv").write_text(CELLS)
    (folder / "table-1.md").write_text("| a | 55.5 % |\n")
    (folder / "provenance.json").write_text('{"job_seconds": {"train": 2706.1}, "commit": "12ab34"}')
    return tmp_path


def told(tree, text):
    page = tree / "README.md"
    page.write_text(text)
    return [line.removeprefix("README.md:").split(": not in")[0] for line in numbers.problems(tree, page)]


LINK = "# A\n\n[table](results/reference/paper/table-1.md)\n\n"
FROM = "# A\n\n<!-- from: results/reference/paper/table-1.csv -->\n\n"


@pytest.mark.parametrize("head", [LINK, FROM])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 98.28 %, that is 98.31 → 98.28 ± 0.13 %.", []),
        ("It is 98.29 %.", ["5: 98.29 %"]),
        ("It is 98.3 and 74.6 %.", ["5: 74.6 %"]),
        ("Of 98.31 → 98.28 ± 0.14 % all.", ["5: 0.14 %"]),
        ("rho is 0.111 → 0.109, 0.111 → 0.110.", ["5: 0.110"]),
        ("With 95 % intervals, for 40 steps at 0.3, on 8/255 and LeNet-5.", []),  # no results
        ("Images: 123 s.", ["5: 123 s"]),  # numbers of images are no numbers of cells
        ("`12.5 %` is code.\n\n    13.5 % too\n\n```\n14.5 %\n```\n", []),
        ("It is 98.28\n% or 99.1\nand 74.5 %.", ["5: 99.1 %"]),
        ("| rho | share, % | s |\n| --- | --- | --- |\n| 0.7 | 98.3 | – |\n| 0.7 | 55.5 | 0.109 |", ["8: 55.5 %"]),
        ("| a | b |\n| --- | --- |\n| 12 | in 4 words |\n| x | 5 % of words |", ["8: 5 %"]),
    ],
)
def test_numbers_by_hand(head, text, expected, tree):
    assert told(tree, head + text) == expected


def test_a_part_begins_at_a_heading_and_at_a_comment(tree):
    (tree / "results/reference/paper/extra.csv").write_text("x\n0.25\n")
    (tree / "results/reference/paper/pages.csv").write_text("x\n0.35\n")
    top = "<!-- from: results/reference/paper/pages.csv -->\n\n"
    other = FROM.replace("table-1", "extra").removeprefix("# A\n\n")
    text = f"{top}{FROM}98.3 %, 25 %\n\n{other}98.3 %, 25 %\n\n## B\n\n25 %, 35 %\n"
    assert told(tree, text) == ["7: 25 %", "11: 98.3 %", "15: 25 %"]


def test_times_may_be_seconds_there_and_a_folder_is_all_of_its_data(tree):
    text = "# A\n\n<!-- from: results/reference/paper -->\n\n45 minutes, 45.1 minutes, 46 minutes, 98.3 %, 55.5 %.\n"
    assert told(tree, text) == ["5: 46 minutes", "5: 55.5 %"]


def test_what_is_computed_says_how(tree):
    line = (
        f"{FROM}<!-- derived: 23.8 = 98.3 - 74.5; 1.7 = 100 - 98.3 -->\n\nIt takes 23.8 points, 1.7 %, 23.7 points.\n"
    )
    assert told(tree, line) == ["7: 23.7 points"]
    with pytest.raises(RedoubtError, match=r"README.md:3: derived: 98.3 - 74.5 is 23.8, not 24.8"):
        told(tree, line.replace("23.8 =", "24.8 ="))
    with pytest.raises(RedoubtError, match=r"derived: 98.4 is in no file"):
        told(tree, line.replace("23.8 = 98.3", "23.9 = 98.4"))


def test_a_page_without_sources_and_a_source_that_is_gone(tree, capsys):
    (tree / "README.md").write_text("# A\n<!-- claims: written by `make format` -->\nIt is 5 %.\n")
    (tree / "docs").mkdir()
    (tree / "docs/claims.md").write_text("# B\n\nwritten by `make format`.\n\n17 %\n")
    assert numbers.main(["--root", str(tree)]) == 1
    assert capsys.readouterr().out == "README.md:3: 5 %: not in any file, since none is named\n"
    (tree / "README.md").write_text("# A\n\nIt is.\n")
    assert numbers.main(["--root", str(tree)]) == 0
    with pytest.raises(RedoubtError, match=r"README\.md: from: results/gone\.csv: no such file"):
        told(tree, "<!-- from: results/gone.csv -->\n")


def test_pages_that_people_write_are_read_and_a_wrong_number_in_one_is_named():
    names = [str(page.relative_to(ROOT)) for page in numbers.pages(ROOT)]
    assert {"README.md", "docs/gpu.md", "results/reference/README.md"} <= set(names)
    assert not {"docs/claims.md", "docs/planted.md", "docs/attacks.md"} & set(names)
    page = ROOT / "results/reference/README.md"
    section = next(part for part in numbers.sections(ROOT, page) if "rho_inf by log-odds |" in part.text)
    known, said = numbers.numbers(section.sources), list(numbers.quoted(section))
    assert len(said) > 20
    wrong = [numbers.Said(f"{each.value + 6 * each.half:.6g}", each.unit, each.line) for each in said]
    assert sum(not numbers.traced(each, known) for each in wrong) > 0.6 * len(wrong)
