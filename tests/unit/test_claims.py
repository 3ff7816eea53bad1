"""Claims: every check passes, fails or waits; the paper's own numbers are consistent."""

from pathlib import Path

import pandas as pd
import pytest

from redoubt.errors import RedoubtError
from redoubt.judging.claims import Numbers, decide
from redoubt.study.files import read_study
from redoubt.study.published import read_published

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    ("a", "Acc.", 0.9, 0.95, ""),
    ("b", "Acc.", 0.8, 0.97, ""),
    ("c", "Acc.", 0.7, 0.70, ""),
    ("a", "rho", 0.4, 0.10, ""),
    ("b", "rho", 0.2, 0.20, ""),
    ("c", "rho", 0.3, 0.05, ""),
    ("d", "Acc.", None, 0.60, "no ImageNet here"),
]


@pytest.fixture
def numbers(tmp_path):
    cells = pd.DataFrame(CELLS, columns=["row", "column", "reproduced", "published", "reason"])
    cells.to_csv(tmp_path / "table-1.csv", index=False)
    history = pd.DataFrame(
        {
            "model": ["up"] * 4 + ["down"] * 4 + ["wild"] * 4 + ["absent", "short", "short"],
            "epoch": [*range(4)] * 3 + [None, 0, 1],
            "accuracy": [1, 2, 3, 9, 9, 5, 4, 1, 3, 1, 4, 2, None, 1, 2],
            "reason": [""] * 12 + ["cut at scale demo", "", ""],
        }
    )
    history.to_csv(tmp_path / "figure-1.csv", index=False)
    return lambda published=False: Numbers(tmp_path, published)


def value(row, column="Acc.", artifact="table-1"):
    return {"artifact": artifact, "where": {"row": row, "column": column}, "column": "reproduced"}


def compare(left, relation, right, factor=1.0, offset=0.0):
    return {
        "check": "compare",
        "left": left,
        "relation": relation,
        "right": right,
        "factor": factor,
        "offset": offset,
    }


def best(model, columns, rank=1, among=("a", "b", "c")):
    common = {"check": "best", "artifact": "table-1", "among": list(among)}
    return {**common, "model": model, "columns": columns, "rank": rank}


def trend(model, sign, strength=0.5):
    common = {"check": "trend", "artifact": "figure-1", "x": "epoch", "y": "accuracy"}
    return {**common, "where": {"model": model}, "sign": sign, "strength": strength}


def consistent(first, second, threshold, level, slack=0.0):
    ratio = [value(first, "rho"), value(second, "rho")]
    common = {"check": "consistent", "ratio": ratio, "threshold": threshold}
    return {**common, "value": value(first), "level": level, "slack": slack}


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (compare(value("a"), ">", value("b")), "holds"),
        (compare(value("b"), ">", value("a")), "fails"),
        (compare(value("a"), ">=", value("a")), "holds"),
        (compare(value("a"), ">", value("a")), "fails"),
        (compare(value("a"), "<", value("b"), offset=0.2), "holds"),
        (compare(value("a", "rho"), ">=", value("b", "rho"), factor=1.99), "holds"),
        (compare(value("a", "rho"), ">=", value("b", "rho"), factor=2.01), "fails"),
        (compare(value("c"), "<=", 0.7), "holds"),
        (compare(value("a"), ">", value("d")), "not-run"),
        (compare(value("a"), ">", value("nobody")), "not-run"),
        (compare(value("a", artifact="table-9"), ">", 0.0), "not-run"),
        (best("a", ["Acc.", "rho"]), "holds"),
        (best("b", ["Acc."]), "fails"),
        (best("b", ["Acc."], rank=2), "holds"),
        (best("b", ["Acc.", "rho"], rank=2), "fails"),
        (best("a", ["Acc."], among=("a", "b", "d")), "not-run"),
        (trend("up", "rising"), "holds"),
        (trend("up", "falling"), "fails"),
        (trend("down", "falling"), "holds"),
        (trend("down", "flat"), "fails"),
        (trend("wild", "flat", 0.3), "holds"),
        (trend("wild", "rising"), "fails"),
        (trend("absent", "rising"), "not-run"),
        (trend("short", "rising"), "not-run"),
        (consistent("a", "b", 1.0, 0.5), "holds"),  # ratio 2 above 1, 0.9 above 0.5
        (consistent("c", "a", 1.0, 0.5), "fails"),  # ratio 0.75 below 1, 0.7 above 0.5
        (consistent("c", "a", 1.0, 0.69, slack=0.02), "holds"),
        (consistent("d", "a", 1.0, 0.5), "not-run"),
    ],
)
def test_verdicts(check, expected, numbers):
    verdict, evidence = decide({"checks": [check]}, numbers())
    assert verdict == expected, evidence
    assert evidence.startswith(f"{1 if expected == 'holds' else 0} of 1 checks passed") and "\n" not in evidence


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (compare(value("a"), ">", value("d")), "no ImageNet here"),
        (trend("absent", "rising"), "cut at scale demo"),
        (compare(value("a", artifact="table-9"), ">", 0), "table-9 has not been drawn"),
    ],
)
def test_reasons_reach_the_evidence(check, reason, numbers):
    assert f"not run: {reason}" in decide({"checks": [check]}, numbers())[1]


def test_one_failure_outweighs_and_one_gap_waits(numbers):
    good, bad = compare(value("a"), ">", value("b")), compare(value("b"), ">", value("a"))
    gap = compare(value("d"), ">", 0.0)
    assert decide({"checks": [good, gap, bad]}, numbers())[0] == "fails"
    assert decide({"checks": [good, gap]}, numbers())[0] == "not-run"
    assert decide({"checks": [good, good]}, numbers())[0] == "holds"


def test_printed_numbers_are_judged_apart(numbers):
    claim = {"checks": [compare(value("b"), ">", value("a"))]}
    assert decide(claim, numbers())[0] == "fails" and decide(claim, numbers(published=True))[0] == "holds"
    assert decide({"checks": [trend("up", "rising")]}, numbers(published=True))[0] == "not-run"


def test_several_seeds_are_averaged(tmp_path):
    frame = pd.DataFrame({"row": ["a", "a"], "column": ["Acc."] * 2, "reproduced": [0.4, 0.6]})
    frame.to_csv(tmp_path / "table-1.csv", index=False)
    assert Numbers(tmp_path).number(value("a")) == pytest.approx(0.5)


@pytest.mark.parametrize("change", [{"where": {"nothing": 1}}, {"x": "nothing"}])
def test_an_unknown_column_is_named(change, numbers):
    with pytest.raises(RedoubtError, match=r"figure-1\.csv has no column 'nothing'"):
        decide({"checks": [trend("up", "rising") | change]}, numbers())


def test_an_empty_file_is_told_in_one_line(tmp_path):
    (tmp_path / "table-1.csv").write_text("")
    with pytest.raises(RedoubtError, match=r"table-1\.csv: not readable"):
        Numbers(tmp_path).number(value("a"))


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The paper's numbers as if they were artifacts."""
    folder = tmp_path_factory.mktemp("printed")
    found = read_published(ROOT / "config/published/deepdefense.csv")
    frame = pd.DataFrame([(*key, number.value) for key, number in found.items()])
    frame.columns = ["artifact", "row", "column", "published"]
    for artifact, cells in frame[frame["artifact"] != "figure-3"].groupby("artifact"):  # it has other columns
        cells.to_csv(folder / f"{artifact}.csv", index=False)
    return Numbers(folder, published=True)


def studied():
    return {name: claim.model_dump() for name, claim in read_study(ROOT, "deepdefense").claims.items()}


@pytest.mark.parametrize("kind", ["best", "consistent"])
def test_the_paper_agrees_with_itself(kind, printed):
    checks = [check for claim in studied().values() for check in claim["checks"] if check["check"] == kind]
    table = [check for check in checks if "table-1" in str(check)]
    verdict, evidence = decide({"checks": table}, printed)
    assert verdict == "holds", evidence
    assert len(table) >= {"best": 6, "consistent": 42}[kind]


def test_no_printed_number_contradicts_a_claim(printed):
    found = {name: decide(claim, printed) for name, claim in studied().items()}
    assert {name: evidence for name, (verdict, evidence) in found.items() if verdict == "fails"} == {}
    assert sum(verdict == "holds" for verdict, _ in found.values()) >= 5
