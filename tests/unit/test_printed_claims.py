"""The printed numbers of every study agree with its claims, and those of FGS with each other."""

from pathlib import Path

import pytest

from redoubt.judging.claims import decide
from redoubt.judging.finished import Printed
from redoubt.study import catalog
from redoubt.study.published import read_published

ROOT = Path(__file__).resolve().parents[2]
HELD = {
    "deepdefense": {"claim-1", "claim-3", "claim-4", "claim-9"},
    "peernets": {f"claim-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14, 15, 17, 18)},
    "perceptual_prior": {f"claim-{n}" for n in (3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15)},
    "learn2perturb": {f"claim-{n}" for n in (2, 3, 5, 6, 7)},
}
"""Claims that rest on printed numbers alone."""
OPEN = {
    "deepdefense": {"claim-2", "claim-13"},
    "peernets": {"claim-10", "claim-19"},
    "perceptual_prior": set(),
    "learn2perturb": {"claim-9"},
}
"""The same, with something left open: their checks hold, and they are undecided."""


@pytest.fixture(scope="module")
def found():
    return catalog.load(ROOT, {"scale": "paper", "studies": list(HELD)})


@pytest.mark.parametrize("study", HELD)
def test_no_printed_number_contradicts_a_claim(study, found):
    printed = Printed(read_published(ROOT / f"config/published/{study}.csv"))
    decisions = {
        key: decide(claim.checks, printed, claim.open)[-1] for (own, key), claim in found.claims.items() if own == study
    }
    wrong = {
        (key, outcome.text): outcome.numbers
        for key, decision in decisions.items()
        for outcome in decision.outcomes
        if outcome.outcome == "fails"
    }
    assert wrong == {}
    assert {key for key, decision in decisions.items() if decision.here == "holds"} == HELD[study]
    assert {key for key, decision in decisions.items() if decision.here == "undecided"} == OPEN[study]
    assert all(decision.here in ("holds", "undecided", "not-run") for decision in decisions.values())


def test_printed_accuracy_at_a_share_of_epsilon_follows_from_rho_inf():
    """A model is above one half at a share of eps_ref exactly when its own epsilon, and so its rho_inf, is larger."""
    printed = read_published(ROOT / "config/published/deepdefense.csv")
    cells = {(row, column): number.value for (table, row, column), number in printed.items() if table == "table-1"}
    asked = 0
    for (row, column), accuracy in cells.items():
        if column.startswith("Acc.@") and not row.endswith("-deepdefense"):
            network = row.rsplit("-", 1)[0]
            share = float(column.removeprefix("Acc.@").removesuffix("eps_ref"))
            ratio = cells[row, "rho_inf"] / cells[f"{network}-deepdefense", "rho_inf"]
            assert abs(accuracy - 0.5) <= 0.01 or (ratio > share) == (accuracy > 0.5), (row, column)
            asked += 1
    assert asked == 42
