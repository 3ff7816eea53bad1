"""Claims: each check holds, fails, is undecided or waits, from samples made up here; worlds without an effect."""

import numpy as np
import pytest

from redoubt.errors import RedoubtError
from redoubt.judging.claims import decide
from redoubt.judging.evidence import NoNumber, Run, Sample
from redoubt.records import typed
from redoubt.study.addresses import Place
from redoubt.study.claims import decidable
from redoubt.study.config import Check


class Made:
    """Evidence that is made up: a sample or a number by row and column, points by row."""

    def __init__(self, values=None, points=None, apart=None):
        self.values, self.series, self.reason = values or {}, points or {}, apart

    def number(self, place):
        found = self._found(place)
        if not isinstance(found, Sample):
            return found
        return float(np.mean([run.values.mean() for run in found.runs.values()]))

    def sample(self, place):
        found = self._found(place)
        return found if isinstance(found, Sample) else None

    def points(self, place, over):
        return self.series[place.model]

    def apart(self, place):
        return self.reason

    def _found(self, place):
        found = self.values.get((place.model, place.value), self.values.get(place.model))
        if found is None:
            raise NoNumber(f"no {place.model} here")
        return found


def find(address, over):
    """Return a place whose row is its model; rows of CIFAR-10 begin with c."""
    row, column = address.values
    dataset = "CIFAR-10" if row.startswith("c") else "MNIST"
    return Place(str(address), "toy", address.artifact, (("row", row),), column, row, dataset)


def checks(*entries):
    return [check for entry in entries for check in decidable(typed(Check, entry, "check"), find)]


def compare(text, **keys):
    return {"compare": text, **keys}


def rate(right, n=1000, shift=0):
    return Sample({0: Run(np.arange(n), np.roll(np.repeat([1.0, 0.0], [right, n - right]), shift))}, True)


def mean(level, n=400, seed=0):
    return Sample({0: Run(np.arange(n), np.random.default_rng(seed).normal(level, 1, n))}, False)


WORLD = {
    "a": rate(900),
    "a2": rate(899, shift=1),
    "b": rate(800, shift=5),
    "few": rate(9, 10),
    "more": rate(10, 10),
    "m": mean(2.0),
    "n": mean(1.0, seed=1),
    "plain": 3.0,
    "other": 4.0,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t[a, x] > t[b, x]", "holds"),
        ("t[a, x] > [b]", "holds"),
        ("t[b, x] > [a]", "fails"),
        ("t[a, x] < [b]", "fails"),
        ("t[b, x] <= [a]", "holds"),
        ("t[a, x] > [a2]", "undecided"),
        ("t[a, x] >= [a]", "undecided"),  # nothing differs, so nothing is shown
        ("t[more, x] > [few]", "undecided"),
        ("t[a, x] > [b] + 0.05", "holds"),
        ("t[a, x] > [b] + 0.2", "fails"),
        ("t[a, x] >= [a2] - 0.02", "holds"),
        ("t[a, x] = [a2] within 0.02", "holds"),
        ("t[a, x] = [b] within 0.02", "fails"),
        ("t[few, x] = [more] within 0.02", "undecided"),
        ("t[m, x] > 1.5 * [n]", "holds"),
        ("t[m, x] > 3 * [n]", "fails"),
        ("t[m, x] = [m] within 10 %", "holds"),
        ("t[n, x] = [m] within 10 %", "fails"),
        ("t[a, x] > 0.85", "holds"),
        ("t[a, x] > 0.95", "fails"),
        ("t[more, x] > 0.95", "undecided"),  # ten of ten show no more than 0.69
        ("t[plain, x] < [other]", "holds"),
        ("t[plain, x] > [other]", "fails"),
        ("t[plain, x] >= 3", "holds"),
        ("t[plain, x] > 3", "fails"),
        ("t[plain, x] = 2.9 within 5 %", "holds"),
        ("t[plain, x] = 2.5 within 5 %", "fails"),
        ("t[plain, x] > [a]", "holds"),
        ("t[a, x] > [nobody]", "not-run"),
    ],
)
def test_comparisons(text, expected):
    part, total = decide(checks(compare(text)), Made(WORLD))
    (outcome,) = part.outcomes
    assert outcome.outcome == part.here == part.verdict == total.here == expected, outcome
    assert (outcome.p is None) == ("plain" in text or "nobody" in text)


def test_a_check_says_what_it_found():
    (outcome,) = decide(checks(compare("t[a, x] > [b]")), Made(WORLD))[0].outcomes
    assert (outcome.n, outcome.runs, outcome.test) == (1000, 1, "McNemar's test")
    assert outcome.effect == pytest.approx(0.1) and outcome.p < 1e-6 and outcome.numbers == "0.9 and 0.8"
    (outcome,) = decide(checks(compare("t[a, x] > [nobody]")), Made(WORLD))[0].outcomes
    assert outcome.test == "no nobody here" and outcome.effect is None
    (outcome,) = decide(checks(compare("t[a, x] = [b] within 0.02")), Made(WORLD))[0].outcomes
    assert outcome.effect == pytest.approx(0.1)


def test_all_checks_count_and_the_worst_decides():
    good, bad, gap = compare("t[a, x] > [b]"), compare("t[b, x] > [a]"), compare("t[a, x] > [nobody]")
    unsure = compare("t[a, x] > [a2]")

    def verdict(*entries):
        return decide(checks(*entries), Made(WORLD))[-1].here

    assert verdict(good, gap, unsure, bad) == "fails"
    assert verdict(good, unsure, gap) == "not-run"
    assert verdict(good, unsure) == "undecided"
    assert verdict(good, good) == "holds"


def test_what_is_left_open_cannot_hold_but_can_fail():
    good, bad = checks(compare("t[a, x] > [b]")), checks(compare("t[b, x] > [a]"))
    assert [part.here for part in decide(good, Made(WORLD), "one image")] == ["undecided", "undecided"]
    assert [part.here for part in decide(bad, Made(WORLD), "one image")] == ["fails", "fails"]
    assert decide(good, Made(WORLD), "one image")[-1].summary.endswith("; open: one image")


def test_p_is_corrected_for_the_checks_of_a_dataset():
    """Differences of 11 against 2 images have p = 0.013: enough alone and with another check, not with nine more."""
    base = rate(500)
    values = base.runs[0].values.copy()
    values[:2], values[-11:] = 0.0, 1.0
    world = {"a": Sample({0: Run(np.arange(1000), values)}, True), "b": base, "c": base, "c2": base}

    def verdict(count):
        entries = [compare("t[a, x] > [b]")] * count + [compare("t[c, x] > [c2]")] * 20
        return decide(checks(*entries), Made(world))[0].outcomes[0]

    assert verdict(1).outcome == "holds" and verdict(1).adjusted == pytest.approx(verdict(1).p)
    assert verdict(10).outcome == "undecided" and verdict(10).adjusted == pytest.approx(10 * verdict(1).p)


def test_a_claim_is_decided_on_each_dataset():
    world = WORLD | {"c": rate(800), "c2": rate(900, shift=3)}
    entries = [compare("t[a, x] > [b]"), compare("t[c, x] > [c2]"), compare("t[plain, x] < [other]")]
    mnist, cifar, total = decide(checks(*entries), Made(world))
    assert (mnist.dataset, mnist.here, cifar.dataset, cifar.here) == ("MNIST", "holds", "CIFAR-10", "fails")
    assert mnist.summary == "2 hold; 1 without a known sampling error"
    assert total.dataset == "all" and total.here == "fails" and len(total.outcomes) == 3
    assert total.summary == "holds on MNIST (2 of 2 checks), fails on CIFAR-10 (1 of 1 checks)"
    entries = [compare("t[plain, x] < [other]"), compare("t[cx, x] > [c2]")]
    total = decide(checks(*entries), Made(world))[-1]
    assert total.summary == "holds on MNIST (1 of 1 checks, no sampling error known), not run on CIFAR-10"


def test_a_number_without_a_known_error_denies_a_claim_alone_but_not_beside_a_test():
    bare, good = compare("t[plain, x] > [other]"), compare("t[a, x] > [b]")
    assert [part.here for part in decide(checks(bare), Made(WORLD))] == ["fails", "fails"]
    part, _ = decide(checks(bare, good), Made(WORLD))
    assert part.here == "undecided" and [outcome.outcome for outcome in part.outcomes] == ["fails", "holds"]
    assert decide(checks(bare, compare("t[b, x] > [a]")), Made(WORLD))[-1].here == "fails"


def test_numbers_that_are_not_comparable_say_nothing_about_the_paper():
    part, total = decide(checks(compare("t[a, x] > [b]")), Made(WORLD, apart="scale demo"))
    assert (part.verdict, part.here, total.verdict) == ("not-comparable", "holds", "not-comparable")
    part, _ = decide(checks(compare("t[a, x] > [nobody]")), Made(WORLD, apart="scale demo"))
    assert (part.verdict, part.here) == ("not-run", "not-run")


@pytest.mark.parametrize(
    ("values", "sign", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], "rising", "holds"),
        ([1, 2, 3, 4, 5, 6], "falling", "fails"),
        ([6, 5, 4, 3, 2, 1], "falling", "holds"),
        ([1, 3, 2, 4], "rising", "undecided"),
        ([1, 2, 3, 4], "rising", "undecided"),  # of 24 orders of four points two are as extreme
        ([3, 1, 4, 1, 5], "rising", "undecided"),
        ([1, 2], "rising", "not-run"),
    ],
)
def test_trends(values, sign, expected):
    entry = {"trend": "t[a, x]", "over": "c", "sign": sign}
    part, _ = decide(checks(entry), Made(points={"a": list(enumerate(values))}))
    assert part.here == expected, part.outcomes


def test_best_is_a_comparison_with_every_other_row():
    found = checks({"best": "t[a, x]", "among": ["a", "b", "n"]})
    assert [check.text for check in found] == ["t[a, x] > [b]", "t[a, x] > [n]"]
    found = checks({"best": "t[{net}, x]", "among": ["{net}", "b"], "lowest": True, "each": {"net": ["a", "n"]}})
    assert [check.text for check in found] == ["t[a, x] < [b]", "t[n, x] < [b]"]


def test_each_is_every_combination_and_some_is_one_of_them():
    entry = compare("t[{row}, Acc.@{rho}] {sign} [b]", each={"row": ["a", "n"], "rho sign": [[0.5, ">"], [1.0, "<"]]})
    assert [check.text for check in checks(entry)] == [
        "t[a, Acc.@0.5] > [b]",
        "t[a, Acc.@1] < [b]",
        "t[n, Acc.@0.5] > [b]",
        "t[n, Acc.@1] < [b]",
    ]
    (check,) = checks(compare("t[{row}, x] > 3 * [{other}]", each={"other": ["b"]}, some={"row": ["a", "n"]}))
    assert check.text == "t[a, x] > 3 * [b] or t[n, x] > 3 * [b]"


@pytest.mark.parametrize(
    ("rows", "expected"), [("ba", "holds"), ("bb", "fails"), ("22", "undecided"), ("a?", "not-run")]
)
def test_one_of_some_is_enough_and_all_must_fail(rows, expected):
    names = [{"2": "a2", "?": "nobody"}.get(row, row) for row in rows]
    entry = compare("t[{row}, x] > [{base}]", each={"base": ["a2" if rows == "22" else "b" if "a" in rows else "a"]})
    part, _ = decide(checks(entry | {"some": {"row": names}}), Made(WORLD))
    assert part.here == expected, part.outcomes


def test_the_surest_of_several_pays_for_their_number():
    (one,) = decide(checks(compare("t[m, x] > 1.5 * [n]")), Made(WORLD))[0].outcomes
    entry = compare("t[{row}, x] > 1.5 * [n]", some={"row": ["m", "n"]})
    (both,) = decide(checks(entry), Made(WORLD))[0].outcomes
    assert both.p == pytest.approx(2 * one.p, rel=1e-9) and one.p > 0


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "give exactly one of compare, best, trend"),
        ({"compare": "t[a, x] > 1", "trend": "t[a, x]"}, "give exactly one of"),
        ({"best": "t[a, x]"}, "best needs among"),
        ({"trend": "t[a, x]", "over": "c"}, "trend needs sign"),
        ({"compare": "t[a, x] > 1", "over": "c"}, "over comes with trend"),
        (compare("t[a, x] > 1", each={"row": []}), "each.row has no values"),
        (compare("t[{a}, x] > 1", each={"a b": [["x"]]}), "each.a b: ['x'] is not 2 values"),
        (compare("t[a, x] > 1", each={"row": ["a"]}), "each.row: nothing says {row}"),
        (compare("t[{row}, x] > 1"), "{row} has no values"),
        (compare("t[a, x] >> 1"), "is no comparison"),
        (compare("t[a, x]"), "is no comparison"),
        (compare("a > b"), "is no comparison"),
        (compare("t[a, x] > 1.2.3"), "'1.2.3' is not a number"),
        (compare("t[a, x] = t[b, x]"), "= is decided within a margin"),
        (compare("t[a, x] > t[b, x] within 3 %"), "= is decided within a margin"),
        ({"best": "t[a, x]", "among": ["a"]}, "among names no other row"),
        (compare("t[{row}, x] > 1", some={"row": ["a", "c"]}), "they are on several datasets"),
    ],
)
def test_what_is_no_check(entry, reason):
    with pytest.raises(RedoubtError) as error:
        checks(entry)
    assert reason in str(error.value)


def test_a_world_without_an_effect_makes_no_claim_hold():
    """In 200 worlds of two equal models a claim of better accuracy holds or fails in about one of twenty."""
    generator, found = np.random.default_rng(1), []
    for _ in range(200):
        hard = generator.uniform(size=500)
        world = {
            row: Sample({0: Run(np.arange(500), (generator.uniform(size=500) < hard).astype(float))}, True)
            for row in ("a", "b")
        }
        found.append(decide(checks(compare("t[a, x] > [b]")), Made(world))[-1].here)
    assert found.count("undecided") >= 180
