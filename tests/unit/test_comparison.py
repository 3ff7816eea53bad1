"""Two runs beside each other: what became of each cell and claim, by hand."""

import json
import subprocess

import pytest

from redoubt.commands import __main__ as command
from redoubt.errors import RedoubtError
from redoubt.judging.cells import Cell
from redoubt.judging.comparison import Run, compare, graded
from redoubt.judging.decided import Row
from redoubt.judging.tables import frame


def cell(column="x", reproduced=0.5, low=0.4, high=0.6, **more):
    place = {"study": "s", "artifact": "t", "row": "r", "column": column, "metric": "accuracy"}
    return Cell(**{**place, "reproduced": reproduced, "ci_low": low, "ci_high": high, "verdict": "deviates", **more})


def claim(key="claim-1", here="holds", strong="holds"):
    facts = {"study": "s", "claim": key, "statement": "A <b>.", "verdict": "not-comparable"}
    return Row(**facts, here=here, adaptive_verdict=strong, published_verdict="holds")


def run(folder, cells, claims=(), drop=()):
    folder.mkdir()
    frame(Cell, cells).drop(columns=list(drop)).to_csv(folder / "scorecard.csv", index=False)
    frame(Row, list(claims)).to_csv(folder / "claims.csv", index=False)
    return str(folder)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (cell(), cell(reason="else"), "value-equal"),
        (cell(), cell(reproduced=0.5 + 1e-13), "value-equal"),
        (cell(), cell(reproduced=0.5001), "within the interval"),
        (cell(), cell(high=0.61), "within the interval"),
        (cell(), cell(reproduced=0.65, low=0.62, high=0.68), "outside"),
        (cell(), cell(reproduced=0.65, low=0.45, high=0.85), "within the interval"),  # ours lies in the other's
        (cell(low=None, high=None), cell(reproduced=0.51, low=None, high=None), "outside"),  # no interval excuses it
        (cell(), cell(reproduced=None, low=None, high=None), "in one run"),
        (cell(reproduced=None), cell(reproduced=None, reason="else"), "value-equal"),
        (cell(adaptive=0.3), cell(), "value-equal"),  # strong attacks were run once
        (cell(adaptive=0.3), cell(adaptive=0.2), "outside"),
        (cell(adaptive=0.3, adaptive_low=0.1, adaptive_high=0.4), cell(adaptive=0.2), "within the interval"),
    ],
)
def test_grades_by_hand_are_the_same_in_both_directions(one, other, expected):
    assert graded(one, other) == graded(other, one) == expected


def test_runs_beside_each_other(tmp_path):
    first = [cell("same"), cell("reason"), cell("gone"), cell("far"), cell("none", None, None, None)]
    second = [cell("same"), cell("reason", reason="new"), cell("far", 0.9, 0.85, 0.95), cell("new")]
    one = run(tmp_path / "one", first, [claim(), claim("claim-2"), claim("claim-3"), claim("claim-4")])
    claims = [claim(here="fails"), claim("claim-2", strong="fails"), claim("claim-3", strong=None), claim("claim-5")]
    other = run(tmp_path / "other", second, claims, drop=["queries"])  # as an older run
    found = compare(Run(tmp_path / "one", one), Run(tmp_path / "other", other))
    assert {pair.column: pair.grade for pair in found.cells} == {
        "same": "byte-equal",
        "reason": "value-equal",
        "gone": "in one run",
        "far": "outside",
        "none": "value-equal",
        "new": "in one run",
    }
    assert [pair.column for pair in found.changed] == ["far", "gone", "new"]
    assert found.counts == {
        "byte-equal": 1,
        "value-equal": 2,
        "within the interval": 0,
        "in one run": 2,
        "outside": 1,
    }
    assert [(each.claim, each.first.here, each.second.here) for each in found.claims] == [
        ("claim-1", "holds", "fails"),
        ("claim-2", "holds", "holds"),
    ]


def test_the_command_tells_by_its_exit_code(tmp_path, capsys):
    one, near = run(tmp_path / "one", [cell()], [claim()]), run(tmp_path / "near", [cell(reproduced=0.55)], [claim()])
    far = run(tmp_path / "far", [cell(reproduced=0.7, low=0.65, high=0.75)], [claim(here="fails")])
    assert command.main(["compare", one, one]) == 0
    assert "1 cells: 1 byte-equal" in capsys.readouterr().out
    assert command.main(["compare", one, near]) == 0
    page = tmp_path / "page.html"
    assert command.main(["compare", one, far, "--html", str(page)]) == 1
    told = capsys.readouterr().out
    assert "outside  s/t[r, x]  50.00 %  70.00 %" in told and "s/claim-1  holds  fails" in told
    text = page.read_text()
    assert "70.00 %" in text and "A &lt;b&gt;." in text and "<b>." not in text
    assert text.count("<script>") == 1 and "report/index.html" not in text  # there is no report to lead to
    assert command.main(["compare", one, far, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["outside"] == 1 and found["cells"][0]["second"]["reproduced"] == 0.7


def test_a_run_in_a_commit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "kept", [cell()])
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "kept"], ["commit", "-qm", "A run"]):
        subprocess.run([*git, *words], check=True)
    frame(Cell, [cell(reproduced=0.7, low=0.65, high=0.75)]).to_csv("kept/scorecard.csv", index=False)
    assert command.main(["compare", "HEAD:kept", "kept"]) == 1
    assert "A: HEAD:kept\nB: kept\n" in capsys.readouterr().out
    with pytest.raises(RedoubtError, match=r"^HEAD:gone/scorecard\.csv: .*does not exist"):
        command.main(["compare", "HEAD:gone/", "kept"])
    with pytest.raises(RedoubtError, match=r"^gone/scorecard\.csv: no such file"):
        command.main(["compare", "gone", "kept"])


@pytest.mark.parametrize(
    ("cells", "message"), [([cell("y")], "no cell in common"), ([cell(), cell()], "s, t, r, x is there twice")]
)
def test_runs_that_cannot_be_compared(cells, message, tmp_path):
    one, other = run(tmp_path / "one", [cell()]), run(tmp_path / "other", cells)
    with pytest.raises(RedoubtError, match=message):
        command.main(["compare", one, other])
