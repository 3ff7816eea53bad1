"""Every claim must fail where there is no effect, and hold where the printed numbers are true, at the scale paper.

Both are asked within binomial error: of claims that hold in 5 % of all null worlds, one in 1000 holds in more than
`MOST` of `NULL`; of those that hold in 80 % of all printed worlds, one in 1000 holds in fewer than `LEAST` of `TRUE`.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from redoubt.errors import RedoubtError
from redoubt.judging import held, simulated, truth, worlds
from redoubt.judging.claims import decide
from redoubt.judging.evidence import NoNumber
from redoubt.judging.held import Held
from redoubt.judging.simulated import POWERFUL, VACUOUS
from redoubt.judging.truth import key
from redoubt.judging.worlds import Design, World
from redoubt.study import catalog
from redoubt.study.addresses import read_address
from redoubt.study.claims import Comparison
from redoubt.study.sizes import counted
from redoubt.tools import worlds as tool

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted(path.name for path in (ROOT / "config/studies").iterdir())
NULL, TRUE = 200, 15
MOST = int(stats.binom.ppf(0.999, NULL, VACUOUS)) / NULL
LEAST = int(stats.binom.ppf(0.001, TRUE, POWERFUL)) / TRUE
MLP = ("mnist-mlp-deepdefense", "mnist-mlp-reference")


@pytest.fixture(scope="module")
def found():
    return catalog.load(ROOT, {"scale": "paper", "studies": STUDIES})


@pytest.fixture(scope="module")
def design(found):
    return Design(found)


@pytest.fixture(scope="module")
def numbers(found):
    return truth.printed(found, {study: f"config/published/{study}.csv" for study in STUDIES})


@pytest.fixture(scope="module")
def rows(found, design, numbers):
    return simulated.simulated(design, numbers, found.claims, NULL, TRUE)


def place(found, address, study="deepdefense"):
    return found._artifacts.place(study, read_address(address))


def test_no_claim_holds_without_an_effect(found, rows):
    undecided = {(row.study, row.claim) for row in rows if row.fit == "open"}
    assert {name for name, claim in found.claims.items() if claim.open} == undecided
    held = {(row.study, row.claim): row.null for row in rows if row.fit != "open"}
    assert all(share is not None for share in held.values())
    assert {name: share for name, share in held.items() if share > MOST} == {}


def test_every_claim_that_is_not_open_holds_where_the_printed_numbers_are_true(rows):
    true = {(row.study, row.claim): row.printed for row in rows if row.fit != "open" and row.printed is not None}
    assert len(true) > 12
    assert {name: share for name, share in true.items() if share < LEAST} == {}


def test_open_claims_never_hold(found, design, numbers):
    for claim in (claim for claim in found.claims.values() if claim.open):
        world = World(design, truth.null(claim.checks, numbers), lambda _: 0.5, 0)
        assert decide(claim.checks, world, claim.open)[-1].here != "holds"


# -- planted claims ---------------------------------------------------------------------------------------------------


def test_a_claim_that_is_always_true_is_vacuous_and_one_that_needs_more_images_powerless(
    found, monkeypatch, capsys, tmp_path
):
    gain, small = found.claims["deepdefense", "claim-3"], found.claims["deepdefense", "claim-13"]
    weak = dataclasses.replace(gain.checks[0], factor=0.5)
    planted = {
        ("deepdefense", "always"): dataclasses.replace(gain, checks=(weak,)),
        ("deepdefense", "small"): dataclasses.replace(small, open=None),
    }
    fits = {}
    for name, claim in [*planted.items(), (("deepdefense", "gain"), gain)]:
        monkeypatch.setitem(found.__dict__, "claims", {name: claim})
        monkeypatch.setattr(tool.catalog, "load", lambda *_: found)
        monkeypatch.chdir(tmp_path)
        code = tool.main(["--worlds", "10"])
        fits[name[1]] = (code, name[1] in capsys.readouterr().out)
        row = simulated.rows(found, tmp_path, 10)[0]
        fits[name[1]] += (row.fit,)
    assert fits == {"always": (1, True, "vacuous"), "small": (1, True, "powerless"), "gain": (0, True, "fit")}


def test_a_claim_without_a_difference_is_false_where_it_is_at_its_margin(found, design, numbers):
    check = next(each for each in found.claims["deepdefense", "claim-2"].checks if each.left.model == MLP[0])
    wide = dataclasses.replace(check, offset=-0.02)
    claim = dataclasses.replace(found.claims["deepdefense", "claim-2"], checks=(wide,), open=None)
    shares = {}
    for opposite in ("equal", "margin"):
        own = dataclasses.replace(claim, opposite=opposite)
        (row,) = simulated.simulated(design, numbers, {("deepdefense", "x"): own}, 40, 1)
        shares[opposite] = row.null
    assert shares["equal"] == 1.0
    assert shares["margin"] <= 0.15
    level = truth.null([wide], numbers, margin=True)
    assert level[key(wide.left)] == pytest.approx(level[key(wide.right)] - 0.02)


# -- true values ------------------------------------------------------------------------------------------------------


def test_numbers_that_are_compared_are_equal_in_a_null_world_and_one_number_is_the_same_in_two_tables(found, numbers):
    claim = found.claims["deepdefense", "claim-4"]
    level = truth.null(claim.checks, numbers)
    rho = [
        value
        for (model, _, metric, _), value in level.items()
        if "mlp" in model and metric == "norm(order=l2,relative=true)"
    ]
    assert rho == pytest.approx([np.mean([0.111, 0.111, 0.162])] * 3)
    ours = place(found, "table-1[mnist-mlp-deepdefense, rho_2]")
    assert key(ours) == key(place(found, "extra-regulariser[mnist-mlp-deepdefense, rho_2]"))
    assert numbers[key(ours)] == 0.225


def test_numbers_that_are_not_printed_are_at_what_they_are_compared_with(found, numbers):
    claim = found.claims["deepdefense", "claim-12"]
    level = truth.null(claim.checks, numbers)
    assert level[key(claim.checks[0].left)] == 0.5
    assert isinstance(claim.checks[0], Comparison)


# -- draws ------------------------------------------------------------------------------------------------------------


def test_rates_have_their_true_value_and_share_the_difficulty_of_images(found, design, numbers):
    first, second = (place(found, f"table-1[imagenet-alexnet-{name}, Acc.]") for name in ("reference", "deepdefense"))
    world = World(design, {key(first): 0.5, key(second): 0.5}, lambda _: 0.5, 0)
    left, right = (world.sample(each).runs[0].values for each in (first, second))
    assert len(left) == counted("imagenet", "test")[0] == 50_000
    assert left.mean() == pytest.approx(0.5, abs=0.01)
    both = float((left * right).mean())
    assert both == pytest.approx(0.25 + np.arcsin(worlds.COMMON) / (2 * np.pi), abs=0.01)
    again = World(design, {key(second): 0.5}, lambda _: 0.5, 0).sample(second).runs[0].values
    assert (again == right).all()
    assert (World(design, {key(second): 0.5}, lambda _: 0.5, 1).sample(second).runs[0].values != right).any()


def test_means_and_searched_epsilons_have_their_error(found, design):
    mean, epsilon = (place(found, f"table-1[cifar10-nin-reference, {column}]") for column in ("rho_2", "rho_inf"))
    found_means, found_epsilons, stated = [], [], []
    for seed in range(60):
        world = World(design, {key(mean): 2.0, key(epsilon): 2.0}, lambda _: 0.5, seed)
        found_means.append(world.number(mean))
        found_epsilons.append(world.number(epsilon))
        values = world.sample(epsilon).runs[0].values
        stated.append(values.std() / np.sqrt(len(values)))
    assert np.mean(found_means) == pytest.approx(2.0, rel=0.003)
    assert np.std(found_means) == pytest.approx(2.0 * worlds.VARIATION / 100, rel=0.35)
    assert np.mean(found_epsilons) == pytest.approx(2.0, rel=0.004)
    assert np.std(found_epsilons) == pytest.approx(np.mean(stated), rel=0.35)
    # Of the median of n log-normal values with the deviation s in the logarithm: sqrt(pi / 2) s / sqrt(n).
    deviation = np.sqrt(np.log1p(worlds.VARIATION**2))
    assert np.mean(stated) == pytest.approx(2.0 * np.sqrt(np.pi / 2) * deviation / 100, rel=0.02)


def test_runs_differ_and_real_rows_say_how_values_vary(found):
    mean = place(found, "table-1[mnist-mlp-deepdefense, rho_2]")
    world = World(Design(found, lambda _: 0.01), {key(mean): 1.0}, lambda _: 0.5, 3)
    runs = world.sample(mean).runs
    assert sorted(runs) == [0, 1, 2, 3, 4]
    numbers = [run.values.mean() for run in runs.values()]
    assert 0.2 * worlds.RUNS < np.std(numbers, ddof=1) < 3 * worlds.RUNS
    assert runs[0].values.std() == pytest.approx(0.01, rel=0.1)


def test_a_metric_over_some_images_has_the_printed_share_of_them(found, design, numbers):
    norm = place(found, "table-2[cifar10-resnet32-peernet, GD l2]", "peernets")
    shares = worlds.shares(numbers, [norm], equal=False)
    assert shares(norm) == 0.298
    other = place(found, "table-2[cifar10-resnet32-none, GD l2]", "peernets")
    assert worlds.shares(numbers, [norm, other], equal=True)(norm) == pytest.approx((0.298 + 0.749) / 2)
    run = World(design, numbers, shares, 0).sample(norm).runs[0]
    assert len(run.images) == pytest.approx(2980, abs=200)
    assert len(run.values) == len(run.images)


def test_what_one_image_is_taken_for_is_not_simulated(rows):
    row: Held = next(row for row in rows if (row.study, row.claim) == ("peernets", "claim-13"))
    assert row.null is None
    assert "cannot be simulated: fooled says what one image is taken for" in row.reason


def test_an_unprinted_number_does_not_exist_where_printed_ones_are_true(found, design, numbers):
    with pytest.raises(NoNumber, match="prints no number"):
        World(design, numbers, lambda _: 0.5, 0).number(place(found, "figure-2[mnist-mlp-clean, test_rho_2, epoch=1]"))


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_what_is_kept_is_of_the_claims_as_they_are(found):
    kept = held.read(ROOT, STUDIES)
    now = {name: found.basis(name[0], claim) for name, claim in found.claims.items()}
    assert {(row.study, row.claim): row.basis for row in kept} == now, "run `make worlds`"
    assert {row.scale for row in kept} == {"paper"}
    assert (ROOT / tool.PAGE).read_text(encoding="utf-8") == tool.page(kept)


def test_a_claim_has_the_same_basis_at_every_scale_and_another_when_what_is_simulated_changes(found, monkeypatch):
    small = catalog.load(ROOT, {"scale": "demo", "studies": STUDIES})
    bases = {name: found.basis(name[0], claim) for name, claim in found.claims.items()}
    assert {name: small.basis(name[0], claim) for name, claim in small.claims.items()} == bases
    entry = small.report_entry()["studies"]["deepdefense"]["claims"]["claim-3"]
    assert entry["basis"] == bases["deepdefense", "claim-3"]
    claim = found.claims["deepdefense", "claim-3"]
    own = found.basis("deepdefense", claim)
    assert found.basis("deepdefense", dataclasses.replace(claim, statement="Other words.", where="elsewhere")) == own
    weaker = dataclasses.replace(claim.checks[0], factor=1.0)
    changes = [{"checks": (weaker, *claim.checks[1:])}, {"open": "a search"}, {"opposite": "margin"}]
    assert own not in {found.basis("deepdefense", dataclasses.replace(claim, **change)) for change in changes}
    model = claim.checks[0].left.model
    raw = found.studies["deepdefense"]
    entries = {**raw.baselines, **raw.models}
    monkeypatch.setitem(raw.models, model, entries[model].model_copy(update={"seeds": [0, 1]}))
    assert found.basis("deepdefense", claim) != own


def test_a_study_is_written_alone_and_read_back(found, design, numbers, tmp_path):
    rows = [
        simulated.simulated(design, numbers, {name: found.claims[name]}, 4, 1)[0]
        for name in (("deepdefense", "claim-3"), ("peernets", "claim-13"))
    ]
    for row in rows[::-1]:
        tool.write(tmp_path, [row])
    assert held.read(tmp_path, ["deepdefense", "absent", "peernets"]) == rows
    assert [line.split(" | ")[:2] for line in (tmp_path / tool.PAGE).read_text().splitlines()[-2:]] == [
        ["| deepdefense", "claim-3"],
        ["| peernets", "claim-13"],
    ]
    (tmp_path / "config/worlds/peernets.csv").write_text("study,claim\npeernets,claim-13\n")
    with pytest.raises(RedoubtError, match=r"peernets\.csv: column 'basis' is missing"):
        held.read(tmp_path, ["peernets"])
