"""Suites of strong attacks: what an answer of a study stands for, what a scale keeps of it, and mistakes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from redoubt.errors import RedoubtError
from redoubt.layout import SUITES
from redoubt.study import suites
from redoubt.study.config import Changes, Evaluation, Kept, Source, Study, Suite, Suites
from redoubt.study.entries.adaptive import BATTERY, QUERIES, WRAPPERS, Wrapper
from redoubt.study.entries.attack import Attack
from redoubt.study.evaluations import attacks, runs
from redoubt.study.files import Files, read_suites

SHARED = Suites(
    suites={
        "linf": {
            "by": "wrong",
            "sweep": "epsilon",
            "attacks": {
                "apgd": {"attack": "apgd", "parameters": {"steps": 9}},
                "square": {"attack": "square"},
            },
            "wrappers": {"past": "apgd", "transfer": "square"},
            "without": {"margin": "it does not fit"},
        }
    },
)
TRAINING = {"epochs": 1, "batch_size": 1, "learning_rate": 1}
BASELINE = {"dataset": "digits", "network": "mlp", "training": TRAINING}
WORST, APGD, SQUARE, PAST = (f"adaptive-small{end}" for end in ("", "-apgd", "-square", "-past"))


def study(**answer):
    """A study with two models and an attack of its own on the first."""
    return Study(
        title="t",
        reference="r",
        baselines={"a": BASELINE},
        models={"b": {**BASELINE, "defense": "peernet"}},
        attacks={"own": {"attack": "pgd", "parameters": {"epsilons": [0.1]}}},
        evaluations=[{"attack": "own", "models": "a"}],
        adaptive={
            "small": {
                "suite": "linf",
                "models": ["*"],
                "set": {"parameters": {"epsilons": [0.1]}},
                "also": ["own"],
                **answer,
            }
        },
    )


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """The defense of model b names no wrapper."""
    monkeypatch.setattr(suites, "adaptive", lambda defense: [])


@pytest.fixture
def wrapped(monkeypatch):
    """The defense of model b names the wrapper."""
    monkeypatch.setitem(
        WRAPPERS, "past", Wrapper({"gradient": "straight-through", "parameters": {"steps": 20}}, "past it")
    )
    monkeypatch.setattr(suites, "adaptive", lambda defense: {"peernet": ["past", "margin"]}[defense])


def test_every_suite_has_each_wrapper_or_says_why_not():
    for suite in read_suites(Path(__file__).resolve().parents[2]).suites.values():
        assert {*suite.wrappers} | {*suite.without} == {*WRAPPERS} and not {*suite.wrappers} & {*suite.without}
        assert all(suite.without.values())


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (
            "twin",
            "config/suites.yaml: suites.linf: there is no wrapper 'twin', which the defense 'peernet' of 'b' names",
        ),
        ("transfer", "adaptive.small.undefended: expected a model for the wrapper 'transfer', which the defense"),
    ],
)
def test_a_wrapper_that_a_defense_names_is_never_skipped(declared, said, monkeypatch):
    monkeypatch.setattr(suites, "adaptive", lambda defense: [declared])
    with pytest.raises(RedoubtError, match=said) as caught:
        suites.with_suites("s", study(), SHARED)
    assert "\n" not in str(caught.value)


def test_examples_of_the_undefended_model_are_shown_to_the_defended_one(monkeypatch):
    monkeypatch.setattr(suites, "adaptive", lambda defense: ["transfer"])
    found = suites.with_suites("s", study(undefended="a"), SHARED)
    made = {(own.attack[0], own.models[0]): own.crafted_on for own in found.evaluations}
    assert {run for run, source in made.items() if source} == {("adaptive-small-transfer", "b")}
    assert found.attacks["adaptive-small-transfer"].parameters["stop"] is False
    assert reads(found)["b"] == [APGD, SQUARE, "adaptive-small-transfer"]


def test_a_battery_is_that_of_evaluate():
    suite = Suite(by="wrong", battery="l2", attacks={"apgd": {"attack": "pgd"}, "own": {"attack": "fgs"}})
    keys = {"norm": "l2", "iterations": QUERIES - 2, "queries": QUERIES}
    assert list(suite.entries()) == [*BATTERY, "own"]
    assert suite.entries()["square"] == {"attack": "square", "parameters": keys}
    assert suite.entries()["apgd"] == {"attack": "pgd"}, "an attack of the suite may replace one of the battery"


def reads(found):
    """What the worst of several reads, by model."""
    return {own.models[0]: [each.attack for each in own.reads] for own in found.evaluations if own.attack == [WORST]}


def test_an_answer_stands_for_its_attacks_and_the_worst_of_them(wrapped):
    found = suites.with_suites("s", study(each={"apgd": {"draws": 3}}), SHARED)
    assert list(found.attacks) == ["own", APGD, SQUARE, PAST, WORST]
    assert found.attacks[APGD].parameters == {"steps": 9, "epsilons": [0.1]} and found.attacks[APGD].draws == 3
    past = found.attacks[PAST]
    assert (past.gradient, past.parameters, past.draws) == ("straight-through", {"steps": 20, "epsilons": [0.1]}, 1)
    assert found.attacks[WORST].parameters == {"by": "wrong", "sweep": "epsilon"}
    assert reads(found) == {"a": ["own", APGD, SQUARE], "b": [APGD, SQUARE, PAST]}
    assert {(own.attack[0], own.models[0]) for own in found.evaluations[1:]} == {
        *((name, model) for name in (APGD, SQUARE, WORST) for model in "ab"),
        (PAST, "b"),
    }


def test_a_scale_keeps_some(wrapped):
    kept = Kept(models=["b"], attacks=["square", "own"], why="cut")
    found = suites.with_suites("s", study(), SHARED, kept)
    missing = {(own.models[0], own.attack[0]): own.missing for own in found.evaluations}
    assert missing == {
        ("a", "own"): None,
        **{("a", name): "cut" for name in (APGD, SQUARE, WORST)},
        **{("b", name): "cut" for name in (APGD, PAST)},
        ("b", SQUARE): None,
        ("b", WORST): None,
    }
    assert reads(found)["b"] == [SQUARE]
    nothing = suites.with_suites("s", study(), SHARED, Kept(models=["b"], attacks=["fmn"], why="cut"))
    assert all(own.missing == "cut" for own in nothing.evaluations[1:]) and reads(nothing)["b"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"suite": "l0"}, r"attacks.yaml: adaptive.small.suite: 'l0' is not one of linf"),
        ({"also": ["other"]}, r"adaptive.small.also: 'other' is not one of own"),
        ({"models": "c"}, r"adaptive.small.models: 'c' matches no model"),
        ({"each": {"fmn": {}}}, r"adaptive.small.each: 'fmn' is not one of apgd, square"),
        ({"set": {"draw": 1}}, r"adaptive.small: config/suites.yaml: suites.linf.attacks.apgd: draw: unknown key"),
    ],
)
def test_a_mistake_is_one_line(answer, said):
    with pytest.raises(RedoubtError, match=said) as caught:
        suites.with_suites("s", study(**answer), SHARED)
    assert "\n" not in str(caught.value)


def resolved(given):
    """All runs of a study, its models being what they may."""
    files = Files(None, None, {"s": given}, {"s": Changes()})
    return runs(files, {name: SimpleNamespace(entry=None) for name in "ab"}, attacks(files))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"select": {"images": 5}}, "'own' does not attack the images that 'adaptive-small' selects"),
        ({"select": {"split": "train"}}, "'own' does not attack the images that 'adaptive-small' selects"),
        ({"repetitions": 3}, "'adaptive-small-apgd' and 'own' have other repetitions; give equal ones"),
        ({"parameters": {"epsilons": [0.2]}}, "sweeps other values of epsilon than 'own'"),
        ({"space": "preprocessed"}, "'own' is in space preprocessed, 'adaptive-small' in space pixels"),
    ],
)
def test_members_must_be_of_the_same_images_and_sizes(change, said):
    own = Attack(**{"attack": "pgd", "parameters": {"epsilons": [0.1]}, **change})
    found = suites.with_suites("s", study().model_copy(update={"attacks": {"own": own}}), SHARED)
    with pytest.raises(RedoubtError, match=said):
        resolved(found)


def test_a_longer_run_of_the_paper_covers_fewer_images():
    few = {"parameters": {"epsilons": [0.1]}, "select": {"images": 3}}
    found = suites.with_suites("s", study(set=few), SHARED)
    for count in (None, 3, 4):
        own = Attack(attack="pgd", parameters={"epsilons": [0.1]}, select={"images": count})
        longer = found.model_copy(update={"attacks": {**found.attacks, "own": own}})
        assert resolved(longer)["a", WORST].reads[0] == ("a", "own")
    own = Attack(attack="pgd", parameters={"epsilons": [0.1]}, select={"images": 2})
    with pytest.raises(RedoubtError, match="'own' does not attack the images"):
        resolved(found.model_copy(update={"attacks": {**found.attacks, "own": own}}))


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([], "'worst' takes the worst of what it reads; give `reads`"),
        ([Source(model="a", attack="own")], "'worst' on 'b' reads an attack on 'a'"),
    ],
)
def test_the_worst_of_nothing_and_of_another_model_is_refused(sources, said):
    given = study()
    worst = Attack(attack="worst-of", parameters={"by": "wrong", "sweep": "epsilon"})
    asked = Evaluation(attack="worst", models="b", reads=sources)
    changed = {"attacks": {**given.attacks, "worst": worst}, "evaluations": [*given.evaluations, asked]}
    with pytest.raises(RedoubtError, match=said):
        resolved(given.model_copy(update=changed))


@pytest.mark.parametrize(
    ("wrappers", "said"),
    [({"none": "apgd"}, "suites.linf.wrappers: 'none' is not one of"), ({"twin": "fgs"}, "'fgs' is not one of apgd")],
)
def test_a_suite_names_wrappers_that_exist(tmp_path, wrappers, said):
    content = SHARED.model_dump()
    content["suites"]["linf"]["wrappers"] = wrappers
    (tmp_path / "config").mkdir()
    (tmp_path / SUITES).write_text(yaml.safe_dump(content))
    with pytest.raises(RedoubtError, match=said):
        read_suites(tmp_path)


def test_a_suite_has_attacks():
    with pytest.raises(RedoubtError, match=r"suites\.linf\.attacks: expected at least one, or a battery"):
        suites.check(Suites(suites={"linf": {"by": "wrong"}}))


def test_a_root_without_suites_has_none(tmp_path):
    assert read_suites(tmp_path) == Suites()
