"""Worst of several: planted rows with a known answer, and what holds of any rows."""

import numpy as np
import pandas as pd
import pytest

from redoubt.attacks import worst_of
from redoubt.attacks.worst_of import Parameters, combine
from redoubt.errors import RedoubtError
from redoubt.evaluation.combined import selected
from redoubt.metrics.interface import read
from redoubt.study.entries.attack import Select

CLASSES = 4


def rows(after, l2=None, label=0, **columns):
    """Rows of a member: predicted classes after the attack, and norms; images are 10, 11..."""
    count = len(after)
    frame = pd.DataFrame({"index": range(10, 10 + count), "label": label, "clean_label": 0})
    frame["adversarial_label"], frame["success"] = after, np.array(after) != 0
    frame["l2"] = frame["linf"] = np.zeros(count) if l2 is None else np.array(l2, dtype=float)
    frame["x_l2"] = frame["x_linf"] = 1.0
    return frame.assign(loss=0.0, model="m", **columns)


def decided(found):
    return [name if isinstance(name, str) else None for name in found["decided_by"]]


def test_the_smallest_norm_that_changes_the_prediction():
    members = {
        "first": rows([1, 1, 0, 0], [3.0, 1.0, 0.1, 0.0]),  # what changes nothing is no example, however near
        "second": rows([2, 2, 2, 0], [2.0, 1.0, 5.0, 0.0]),
    }
    found = combine(members, Parameters(by="l2"))
    assert found["l2"].tolist()[:3] == [2.0, 1.0, 5.0] and found["adversarial_label"].tolist() == [2, 1, 2, 0]
    assert decided(found) == ["second", "first", "second", None]


def test_fooled_by_any():
    members = {"first": rows([1, 0, 0]), "second": rows([0, 3, 0]), "third": rows([2, 2, 0])}
    found = combine(members, Parameters(by="wrong"))
    assert found["adversarial_label"].tolist() == [1, 3, 0]
    assert decided(found) == ["first", "second", None]


def test_an_image_that_was_wrong_counts_as_the_rates_count_it():
    """Its label is 1 and it is seen as 0: the first leaves it wrong, by nobody, the second corrects it."""
    members = {"first": rows([0], label=1), "second": rows([1], label=1)}
    found = combine(members, Parameters(by="wrong"))
    assert found["adversarial_label"].tolist() == [0] and decided(found) == [None]
    found = combine(members, Parameters(by="changed"))
    assert found["adversarial_label"].tolist() == [1] and decided(found) == ["second"]


def test_a_sweep_is_decided_value_by_value():
    members = {
        "first": pd.concat([rows([1, 0], epsilon=0.1), rows([1, 0], epsilon=0.2)]),
        "second": pd.concat([rows([0, 0], epsilon=0.1), rows([0, 2], epsilon=0.2)]),
    }
    found = combine(members, Parameters(by="wrong", sweep="epsilon"))
    assert found[["epsilon", "index"]].to_numpy().tolist() == [[0.1, 10], [0.1, 11], [0.2, 10], [0.2, 11]]
    assert decided(found) == ["first", None, "first", "second"]


def test_one_member_for_all_images():
    members = {"first": rows([1, 0, 0], rho=0.1), "second": rows([0, 2, 2], rho=0.1)}
    found = combine(members, Parameters(by="changed", sweep="rho", whole=True))
    assert found["adversarial_label"].tolist() == [0, 2, 2] and decided(found) == [None, *["second"] * 2]


def test_queries_are_those_of_all_members_that_count():
    members = {"first": rows([1, 0], queries=[3, 5]), "paper": rows([1, 0]), "second": rows([1, 0], queries=[10, 20])}
    assert combine(members, Parameters(by="wrong"))["queries"].tolist() == [13, 25]
    assert "queries" not in combine({"paper": members["paper"]}, Parameters(by="wrong"))


def test_one_size_at_which_half_of_the_images_are_wrong():
    """Norms 1, 2, 4, and an image that was wrong: with a size of 1 two of four are."""
    member = rows([1, 1, 1, 0], [1.0, 2.0, 4.0, 0.0])
    member["label"] = [0, 0, 0, 1]
    found = combine({"first": member}, Parameters(by="linf", level=0.5))
    assert found["linf"].tolist() == [1.0] * 4 and found["adversarial_label"].tolist() == [1, 0, 0, 0]
    assert combine({"first": member}, Parameters(by="linf", level=0.7))["linf"].tolist() == [2.0] * 4
    withstood = rows([0, 0, 1], [0.0, 0.0, 1.0])
    assert np.isinf(combine({"first": withstood}, Parameters(by="linf", level=0.5))["linf"]).all()


@pytest.mark.parametrize("by", ["wrong", "changed"])
@pytest.mark.parametrize("whole", [False, True])
def test_no_rate_is_weaker_than_that_of_a_member(by, whole):
    """Random rows with repetitions: by the mean over them and by the worst of them."""
    draw = np.random.default_rng(0)
    for _ in range(6):
        members = {name: _random(draw, 12, 4) for name in ("a", "b", "c")}
        found = combine(members, Parameters(by=by, whole=whole)).assign(model="m", seed=0)
        metrics = ["accuracy(at=attacked)"] if by == "wrong" else ["fooling-rate"]
        metrics += ["accuracy(at=attacked,over=worst)"] if by == "wrong" and not whole else []
        for metric in metrics:
            sign = -1.0 if metric.startswith("fooling") else 1.0
            own = [sign * read(metric).values(member.assign(seed=0)).mean() for member in members.values()]
            assert sign * read(metric).values(found).mean() <= min(own) + 1e-12
        assert len(found) == 48 and not found.duplicated(["index", "repetition"]).any()


def _random(draw, images, repetitions):
    frames = []
    for repetition in range(repetitions):
        own = rows(draw.integers(0, CLASSES, images), repetition=repetition)
        frames.append(own.assign(label=np.arange(images) % CLASSES))
    return pd.concat(frames)


def test_no_norm_is_larger_than_that_of_a_successful_member():
    draw = np.random.default_rng(1)
    for _ in range(10):
        members = {name: rows(draw.integers(0, 2, 30), draw.random(30)) for name in ("a", "b", "c")}
        found = combine(members, Parameters(by="l2")).set_index("index")
        for member in members.values():
            own = member[member["success"]].set_index("index")
            assert (found.loc[own.index, "l2"] <= own["l2"]).all() and found.loc[own.index, "success"].all()


def test_a_random_example_is_near_only_where_it_mostly_works():
    """The nearer example changes the prediction in one of four repetitions, the farther one in three."""
    near = pd.concat([rows([int(number == 0)], [1.0], repetition=number) for number in range(4)])
    far = pd.concat([rows([int(number > 0)], [2.0], repetition=number) for number in range(4)])
    found = combine({"near": near, "far": far}, Parameters(by="l2"))
    assert found["l2"].tolist() == [2.0] * 4 and found["success"].tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (rows([1, 1, 1]), "the 3 images of second are not the 2 of first; give both the same `select`"),
        (rows([1, 1]).assign(index=[10, 12]), "the 2 images of second are not the 2 of first"),
        (rows([1, 1], label=1), "the 2 images of second are not the 2 of first"),
        (pd.concat([rows([1, 1], repetition=n) for n in range(3)]), "second is scored 3 times and first 1 times"),
        (rows([1, 1]).drop(columns="label"), "the rows of second have no column 'label'"),
    ],
)
def test_members_of_other_images_are_one_line(second, said):
    with pytest.raises(RedoubtError, match=said) as caught:
        combine({"first": rows([1, 1]), "second": second}, Parameters(by="wrong"))
    assert "\n" not in str(caught.value)


def test_values_of_the_sweep_must_be_the_same():
    members = {"first": rows([1, 1], epsilon=0.1), "second": rows([1, 1], epsilon=0.2)}
    with pytest.raises(RedoubtError, match="the same values where they sweep"):
        combine(members, Parameters(by="wrong", sweep="epsilon"))
    with pytest.raises(RedoubtError, match="have no column 'rho'"):
        combine(members, Parameters(by="wrong", sweep="rho"))


def test_it_has_no_examples_to_give():
    with pytest.raises(RedoubtError, match="crafts nothing"):
        worst_of.run(None, None, Parameters(by="l2"), None)


def test_of_a_longer_run_the_first_images_count():
    member = rows([1, 2, 3, 1])
    member["label"] = [0, 1, 0, 0]
    assert selected(member, Select(images=2))["index"].tolist() == [10, 11]
    assert selected(member, Select(images=2, label=0))["index"].tolist() == [10, 12]
    assert selected(member, Select(not_label=0))["index"].tolist() == [11]
