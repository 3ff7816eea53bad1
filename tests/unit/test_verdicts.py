"""Verdicts: margins that no other method's number meets, equivalence, order, declared changes."""

from pathlib import Path

import pytest

from redoubt.errors import RedoubtError
from redoubt.judging.cells import VERDICTS, Cell, read_cells
from redoubt.judging.margins import margin, smallest_difference
from redoubt.judging.paper import Paper
from redoubt.judging.verdicts import equivalence, judge, ordered
from redoubt.report.views import CELL_VERDICTS, cell_counts
from redoubt.study import catalog
from redoubt.study.entries.artifact import ArtifactEntry, Declared, Verdict
from redoubt.study.published import Published

ROOT = Path(__file__).resolve().parents[2]
FOUND = catalog.load(ROOT, {"scale": "paper"}, environment={})
TOLERANCE = Verdict(rate=0.01, mean=0.1)
ENTRY = ArtifactEntry.model_construct(study="s", id="table-1", declared=[])
JUDGED = [key for key, drawn in FOUND.artifacts.items() if drawn.plot in ("metric-table", "timing-table")]


def judged(published, low, high, margin, wider=1.2, **changes):
    """A cell whose 90 % interval is given; that of 95 % is wider."""
    middle, half = (low + high) / 2, (high - low) / 2
    facts = {
        "study": "s",
        "artifact": "table-1",
        "row": "a",
        "column": "x",
        "metric": "norm(order=l2,relative=true)",
        "verdict": "undecided",
    }
    facts |= {"published": published, "reproduced": middle, "ci90_low": low, "ci90_high": high, "margin": margin}
    return Cell(**facts | {"ci_low": middle - wider * half, "ci_high": middle + wider * half} | changes)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.91, 1.09, "reproduced"),
        (0.9, 1.1, "reproduced"),
        (0.89, 1.05, "undecided"),
        (0.99, 1.11, "undecided"),
        (0.2, 0.88, "undecided"),  # its 95 % interval reaches the margin
        (0.2, 0.8, "deviates"),
        (1.2, 1.4, "deviates"),
        (0.5, 1.5, "undecided"),
    ],
)
def test_equivalence_is_tested_both_ways(low, high, expected):
    assert equivalence(judged(1.0, low, high, 0.1)) == expected


def test_what_is_not_to_be_judged_keeps_its_verdict():
    for verdict in ("not-comparable", "not-run"):
        assert equivalence(judged(1.0, 0.95, 1.05, 0.1, verdict=verdict)) == verdict


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([0.20, 0.24, 0.30], "mean", 0.02 + 0.0005),  # half of 0.04
        ([0.20, 0.30], "mean", 0.02 + 0.0005),  # 10 % of the value are less than half of 0.1
        ([0.20, 0.20], "mean", 0.02 + 0.0005),  # equal numbers: the tolerance
        ([0.20], "rate", 0.01 + 0.0005),
        ([0.20, 0.201], "rate", 0.001 * (1 - 1e-9)),  # less than the difference, though half a unit more would be it
    ],
)
def test_a_margin_is_half_of_the_smallest_printed_difference(values, kind, expected):
    block = [Published(value, 0.0005) for value in values]
    assert margin(block[0], block, kind, TOLERANCE) == pytest.approx(expected, rel=1e-12)


def test_numbers_that_rounding_makes_different_are_equal():
    assert smallest_difference([0.1 + 0.2, 0.3, 0.4]) == pytest.approx(0.1)


def papers():
    """Every table of both studies with its printed numbers, by block."""
    for study, artifact in JUDGED:
        entry = FOUND.artifact_entry(study, artifact)
        entry = entry.model_copy(update={"published": str(ROOT / entry.published)})
        options = entry.parameters
        metrics = {column.label: getattr(column, "metric", "time-ratio") for column in options.columns}
        paper = Paper(entry, getattr(options, "block", ["dataset", "network"]), metrics)
        blocks = {}
        for row, column in paper.numbers:
            blocks.setdefault(paper.block_of(row, column), []).append(row)
        yield paper, blocks


def test_no_number_of_another_method_passes_as_reproduced():
    swaps = 0
    for paper, blocks in papers():
        for (column, *_), rows in blocks.items():
            for row in rows:
                printed = paper.prints(row, column)
                for other in rows:
                    value = paper.numbers[other, column].value
                    for width in (0.0, 0.1, 0.5):
                        half = width * printed.margin
                        cell = judged(printed.number.value, value - half, value + half, printed.margin)
                        if value == printed.number.value:
                            assert equivalence(cell) == "reproduced"
                        else:
                            assert equivalence(cell) != "reproduced", (paper.entry.id, row, other, column)
                            swaps += 1
    assert swaps > 1000


def test_a_reference_number_that_is_reproduced_is_no_other_methods():
    """Of our finished runs, with their intervals of 95 %, which the scorecards of that time have."""
    decided = 0
    for paper, blocks in papers():
        entry = paper.entry
        file = ROOT / f"results/reference/paper/{entry.study}/{entry.id}.csv"
        cells = {(cell.row, cell.column): cell for cell in read_cells(file) or []} if file.exists() else {}
        for (column, *_), rows in blocks.items():
            for row in (row for row in rows if getattr(cells.get((row, column)), "ci_low", None) is not None):
                ours = cells[row, column]
                passing = {
                    paper.numbers[other, column].value
                    for other in rows
                    if equivalence(
                        judged(
                            paper.numbers[other, column].value,
                            ours.ci_low,
                            ours.ci_high,
                            paper.prints(other, column).margin,
                        )
                    )
                    == "reproduced"
                }
                assert len(passing) <= 1, (entry.id, row, column, passing)
                decided += len(passing)
    assert decided >= 5


def test_a_table_of_peer_networks_is_one_block_a_dataset():
    (paper,) = (paper for paper, _ in papers() if (paper.entry.study, paper.entry.id) == ("peernets", "table-2"))
    assert paper.block_of("cifar10-resnet32-none", "GD l2") == paper.block_of("cifar10-resnet32-peernet", "GD l2")
    (paper,) = (paper for paper, _ in papers() if (paper.entry.study, paper.entry.id) == ("deepdefense", "table-1"))
    assert paper.block_of("mnist-mlp-reference", "Acc.") != paper.block_of("mnist-lenet-reference", "Acc.")
    assert paper.prints("mnist-mlp-reference", "rho_2").margin < 0.1 * 0.111 + 0.0005 + 1e-12


# -- order ------------------------------------------------------------------------------------------------------------


def block(*places):
    """Cells of one block: printed value and the ends of our interval."""
    return [judged(printed, low, high, 0.01, 1.0, row=f"row-{n}") for n, (printed, low, high) in enumerate(places)]


def test_the_order_of_a_block_needs_intervals_apart():
    assert ordered(block((1, 2.0, 2.1), (2, 4.0, 4.1), (3, 6.0, 6.1)))
    assert not ordered(block((1, 2.0, 4.05), (2, 4.0, 4.1)))
    assert not ordered(block((2, 2.0, 2.1), (1, 4.0, 4.1)))
    assert not ordered(block((1, 2.0, 2.1))) and not ordered(block((1, 2.0, 2.1), (1, 4.0, 4.1)))
    assert ordered(block((1, 2.0, 2.5), (1, 2.4, 2.6), (2, 4.0, 4.1)))  # the printed tie has no order
    missing = judged(3, 0, 0, 0.1, ci_low=None, ci_high=None, verdict="not-run")
    assert not ordered([*block((1, 2.0, 2.1), (2, 4.0, 4.1)), missing])


def test_a_cell_that_deviates_may_have_the_order():
    cells = [*block((1.0, 2.0, 2.1), (2.0, 4.0, 4.1)), judged(1.0, 2.0, 2.1, 0.01, row="alone", column="y")]
    found = judge(ENTRY, cells, lambda cell: cell.column)
    assert [cell.verdict for cell in found] == ["order only", "order only", "deviates"]
    turned = judge(ENTRY, block((2.0, 2.5, 2.6), (1.0, 4.0, 4.1)), lambda cell: cell.column)
    assert [cell.verdict for cell in turned] == ["deviates", "deviates"]


# -- declared changes and cells that do not count ---------------------------------------------------------------------


def test_a_declared_change_is_named():
    entry = ENTRY.model_copy(update={"declared": [Declared(topic="Data", row="mnist-*"), Declared(topic="x", row="b")]})
    cells = [
        judged(1.0, 0.95, 1.05, 0.1, row="mnist-a"),
        judged(1.0, 0.95, 1.05, 0.1, row="a"),
        judged(1.0, 2.0, 2.1, 0.1, row="mnist-b"),
    ]
    found = judge(entry, cells, lambda cell: cell.row)
    verdicts = ["reproduced with a declared change", "reproduced", "deviates"]
    assert [cell.verdict for cell in found] == verdicts
    assert [cell.reason for cell in found] == ["declared: Data", None, "declared: Data"]


def test_the_ledger_declares_cells_of_tables():
    declared = {each.topic for each in FOUND.artifact_entry("deepdefense", "table-1").declared}
    assert declared == {"Reference networks", "ImageNet"}
    entry = FOUND.artifact_entry("peernets", "table-3")
    assert entry.declared_of("mnist-lenet5-none", "Fool.@0.2") == ["Universal perturbations"]
    assert entry.declared_of("mnist-lenet5-none", "Acc.") == []


@pytest.mark.parametrize("pattern", ["table-9", "table-1/nobody", "table-1/*/nothing", "figure-2"])
def test_a_declared_change_of_nothing_is_refused(pattern):
    broken = catalog.load(ROOT, {"scale": "paper"}, environment={})
    study = broken.studies["deepdefense"]
    items = [study.deviations[0].model_copy(update={"cells": [pattern]})]
    broken.studies["deepdefense"] = study.model_copy(update={"deviations": items})
    with pytest.raises(RedoubtError, match=r"ledger\.yaml: deviations\.0\.cells: '.*' is no cell of a table"):
        broken.check()


def test_definitions_and_repeats_are_in_no_count():
    cells = [judged(1, 1, 1, 0.1, verdict="reproduced"), judged(1, 1, 1, 0.1, verdict="reproduced", not_counted="why")]
    assert cell_counts(cells)["reproduced"] == 1
    columns = {column.label: column for column in FOUND.artifacts["deepdefense", "table-1"].parameters.columns}
    definition = columns["Acc.@1.0eps_ref"]
    assert definition.not_counted("mnist-lenet-deepdefense") == "by definition"
    assert definition.not_counted("mnist-lenet-reference") is None
    assert FOUND.artifacts["deepdefense", "supp-table-2"].parameters.repeats == "table-1"


def test_every_verdict_has_a_mark():
    assert tuple(CELL_VERDICTS) == VERDICTS
