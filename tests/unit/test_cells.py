"""Cells: printed precision, the verdict's rule, and the file of printed numbers."""

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from redoubt.errors import RedoubtError
from redoubt.judging.cells import COLUMNS, Cell, Print, cell, read_cells, shown, with_spread
from redoubt.judging.tables import frame, read_records
from redoubt.study.entries.artifact import ArtifactEntry, Verdict
from redoubt.study.published import Published, read_published

RHO_2 = "norm(order=l2,relative=true)"

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ArtifactEntry.model_construct(study="s", id="table-1", comparable=True, stamp="cut", verdict=Verdict())
HEADER = "artifact,row,column,value,unit,note\n"


def read(tmp_path, *lines):
    path = tmp_path / "published.csv"
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return read_published(path)


@pytest.mark.parametrize(
    ("digits", "unit", "value", "half"),
    [
        ("1.11e-1", "ratio", 0.111, 0.0005),
        ("5.40e-2", "ratio", 0.054, 0.00005),
        ("98.31", "percent", 0.9831, 0.00005),
        ("50", "percent", 0.5, 0.005),
        ("205.80", "0-255", 205.8, 0.005),
        ("3", "ratio", 3.0, 0.5),
        ("1.50", "ratio", 1.5, 0.005),
    ],
)
def test_printed_digits_tell_the_precision(digits, unit, value, half, tmp_path):
    found = read(tmp_path, f"table-1,a,b,{digits},{unit},")["table-1", "a", "b"]
    assert found.value == pytest.approx(value, rel=1e-12) and found.half_unit == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize("digits", ["many", "", "98,3", "nan", "inf", "-Infinity", "sNaN"])
def test_bad_numbers_are_refused_with_their_line(digits, tmp_path):
    with pytest.raises(RedoubtError, match=r"published\.csv: line 3: '.*' is not a number") as caught:
        read(tmp_path, "table-1,a,b,1.0,ratio,", f'table-1,a,c,"{digits}",ratio,')
    assert "\n" not in str(caught.value)


def test_a_printed_standard_deviation_is_read_in_its_unit(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text("artifact,row,column,value,unit,note,std\nt,a,b,98.31,percent,,0.12\nt,a,c,1.0,ratio,,\n")
    found = read_published(path)
    assert found["t", "a", "b"].std == pytest.approx(0.0012) and found["t", "a", "c"].std is None
    path.write_text("artifact,row,column,value,unit,std\nt,a,b,98.31,percent,small\n")
    with pytest.raises(RedoubtError, match="line 2: std: 'small' is not a number"):
        read_published(path)


def test_cells_given_twice_are_refused_with_their_line(tmp_path):
    with pytest.raises(RedoubtError, match="line 4: table-1, a, b is given twice"):
        read(tmp_path, "table-1,a,b,1.0,ratio,", "table-1,a,c,1.0,ratio,", "table-1,a,b,2.0,ratio,")


@pytest.mark.parametrize("unit", ["%", "", "Percent", "norm"])
def test_unknown_units_are_refused_with_their_line(unit, tmp_path):
    with pytest.raises(RedoubtError, match=r"line 2: unit '.*' is not one of plain, ratio, 0-255, epsilon, percent"):
        read(tmp_path, f"table-1,a,b,98.31,{unit},")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_refused(encoding, tmp_path):
    (tmp_path / "published.csv").write_bytes(f"{HEADER}table-1,a,ρ_2,1.0,ratio,\n".replace("ρ", "é").encode(encoding))
    with pytest.raises(RedoubtError, match=r"published\.csv: not UTF-8: .*; save it as UTF-8"):
        read_published(tmp_path / "published.csv")


@pytest.mark.parametrize("text", ["", "artifact,row,value\n", None, 'a,"b\n'])
def test_a_file_without_the_columns_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / "published.csv").write_text(text)
    with pytest.raises(RedoubtError, match=r"published\.csv: (column|not readable)"):
        read_published(tmp_path / "published.csv")


def test_a_cell_holds_all_columns():
    rows = pd.DataFrame({"label": [0] * 10, "clean_label": [0] * 9 + [1], "seed": [0, 1] * 5})
    found = cell(ENTRY, ("m", "Acc."), "accuracy", rows, None, Print(Published(0.95, 0.005)))
    assert (found.reproduced, found.n, found.seeds, found.verdict) == (0.9, 5, 2, "undecided")
    assert found.difference == pytest.approx(-0.05) and found.ci_low < 0.9 < found.ci_high


def test_a_cell_of_several_runs_shows_how_they_differ():
    rows = pd.DataFrame({"l2": [1.0, 2.0, 3.0, 1.2, 2.2, 3.2], "x_l2": 10.0, "index": [0, 1, 2] * 2})
    rows["seed"] = [0, 0, 0, 1, 1, 1]
    found = cell(ENTRY, ("m", "rho_2"), RHO_2, rows, None, Print(Published(0.21, 0.005, std=0.03)))
    assert (found.seeds, found.n, found.over) == (2, 3, "test images and training runs")
    assert found.std == pytest.approx(0.02 / 2**0.5) and found.published_std == 0.03
    assert found.ci_low < found.ci90_low < found.reproduced < found.ci90_high < found.ci_high
    assert with_spread(RHO_2, found.reproduced, found.std) == "2.10e-01 ± 1.41e-02"


def test_nothing_is_compared_where_it_should_not_be():
    rows = pd.DataFrame({"label": [0], "clean_label": [0]})
    reduced = ENTRY.model_copy(update={"comparable": False})
    printed = Published(0.5, 0.1)
    for entry, paper, reason in (
        (ENTRY, Print(), "the paper prints no number"),
        (reduced, Print(printed), "cut"),
        (ENTRY, Print(printed, apart="other images"), "other images"),
    ):
        found = cell(entry, ("m", "Acc."), "accuracy", rows, None, paper)
        assert (found.verdict, found.reason) == ("not-comparable", reason)


def test_a_missing_cell_tells_its_reason():
    found = cell(ENTRY, ("m", "Acc."), "accuracy", None, "no ImageNet here", Print(Published(0.95, 0.005)))
    assert (found.verdict, found.reason, found.n) == ("not-run", "no ImageNet here", 0)
    assert found.published == 0.95 and found.reproduced is None


def test_cells_read_back_as_they_were_written(tmp_path):
    rows = pd.DataFrame({"label": [0] * 7, "clean_label": [0] * 6 + [1], "seed": 0})
    apart = Print(Published(0.9, 0.005), apart="other images", not_counted="by definition")
    cells = [
        cell(ENTRY, ("m", "Acc."), "accuracy", rows, None, Print(Published(0.1 + 0.2, 0.005), margin=0.01)),
        cell(ENTRY, ("m", "rho_2"), RHO_2, None, "no ImageNet here", Print()),
        cell(ENTRY, ("m", "Acc. 2"), "accuracy", rows, None, apart),
    ]
    path = tmp_path / "table-1.csv"
    frame(Cell, cells).assign(seconds=1.5).to_csv(path, index=False)
    assert read_cells(path) == read_records(path, Cell) == cells
    assert (cells[2].verdict, cells[2].reason) == ("not-comparable", "other images")
    assert [*frame(Cell, cells)] == COLUMNS
    with pytest.raises(ValidationError):
        cells[0].verdict = "deviates"


def test_what_holds_no_cells_is_no_scorecard(tmp_path):
    path = tmp_path / "figure-2.csv"
    path.write_text("model,epoch\na,0\n")
    assert read_cells(path) is None
    with pytest.raises(RedoubtError, match=r"figure-2\.csv: column 'study' is missing"):
        read_records(path, Cell)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.98312, "98.31 %"),
        (RHO_2, 0.111, "1.11e-01"),
        ("norm(order=l2)", 205.84, "205.8"),
    ],
)
def test_values_are_shown_in_their_unit(metric, value, text):
    assert shown(metric, value) == text and shown(metric, None) == shown(metric, float("nan")) == "—"


def test_printed_numbers_of_deepdefense_agree_with_each_other():
    published = read_published(ROOT / "config/published/deepdefense.csv")
    assert published["table-1", "mnist-mlp-reference", "Acc."].value == pytest.approx(0.9831)
    for (artifact, row, column), number in published.items():
        if column.startswith("Acc"):
            assert 0 <= number.value <= 1
        if column == "Acc.@1.0eps_ref" and row.endswith("-deepdefense"):
            assert number.value == pytest.approx(0.5, abs=0.002), row
        if artifact == "supp-table-2":
            assert published["table-1", row, column].value == number.value
