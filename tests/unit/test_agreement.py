"""Agreement of two engines: what counts as the same, and what is compared with what."""

import numpy as np
import pandas as pd
import pytest
from artifact_entries import artifact_entry

from redoubt.artifacts import agreement
from redoubt.artifacts._drawing import draw as draw_entry
from redoubt.errors import RedoubtError
from redoubt.evaluation.run import write_rows


def rows(wrong, norms, epsilon=None):
    count = len(wrong)
    frame = pd.DataFrame({"index": np.arange(count), "label": 0, "clean_label": 0})
    frame["adversarial_label"] = np.asarray(wrong, dtype=int)
    frame["l2"], frame["linf"] = norms, np.asarray(norms) / 2
    return frame if epsilon is None else frame.assign(epsilon=epsilon)


def test_norms_are_compared_where_both_fool_an_image_that_was_right():
    ours, theirs = rows([1, 1, 0, 1], [1.0, 2.0, 50.0, 9.0]), rows([1, 1, 1, 1], [1.0, 2.2, 70.0, 1.0])
    ours.loc[3, "clean_label"] = 1
    found = agreement.compare(ours, theirs, "l2", 0.005, 0.02)
    assert (found["n"], found["success"], found["success_referee"], found["differing"]) == (4, 0.75, 1.0, 1)
    assert (found["mean_norm"], found["mean_norm_referee"]) == pytest.approx((1.5, 1.6))
    assert found["ratio"] == pytest.approx(1.5 / 1.6) and not found["agrees"]
    assert agreement.compare(ours, theirs, "linf", 0.005, 0.07)["mean_norm"] == pytest.approx(0.75)
    assert agreement.compare(ours, theirs, "linf", 0.005, 0.07)["agrees"]


@pytest.mark.parametrize(("apart", "count", "same"), [(1, 200, True), (2, 200, False), (2, 400, True), (1, 20, True)])
def test_one_image_in_200_may_differ(apart, count, same):
    ours = rows([0] * apart + [1] * (count - apart), [1.0] * count)
    assert agreement.compare(ours, rows([1] * count, [1.0] * count), "l2", 0.005, 0.02)["agrees"] == same


@pytest.mark.parametrize(("norm", "same"), [(1.019, True), (1.021, False), (0.981, True), (0.979, False)])
def test_norms_may_differ_by_two_percent(norm, same):
    found = agreement.compare(rows([1], [norm]), rows([1], [1.0]), "l2", 0.005, 0.02)
    assert found["agrees"] == same and found["ratio"] == pytest.approx(norm)


@pytest.mark.parametrize(("norm", "same"), [(0.5, True), (1.019, True), (1.021, False)])
def test_ours_may_be_nearer_where_the_pair_says_so(norm, same):
    found = agreement.compare(rows([1], [norm]), rows([1], [1.0]), "l2", 0.005, 0.02, norm_rule="not-larger")
    assert found["agrees"] == same and found["norm_rule"] == "not-larger"
    few = agreement.compare(rows([0, 0, 1], [norm] * 3), rows([1] * 3, [1.0] * 3), "l2", 0.005, 0.02, "not-larger")
    assert not few["agrees"]


def test_nothing_fooled_is_agreement_and_other_images_are_refused():
    assert agreement.compare(rows([0], [0.0]), rows([0], [0.0]), "l2", 0.005, 0.02)["agrees"]
    with pytest.raises(RedoubtError, match="different images"):
        agreement.compare(rows([0], [0.0]), rows([0, 1], [0.0, 1.0]), "l2", 0.005, 0.02)


@pytest.fixture
def drawn(tmp_path):
    def draw(frames, pairs, missing=None, seeds=1):
        inputs = []
        for attack, frame in frames.items():
            paths = [tmp_path / f"m/seed-{seed}" / f"{attack}.parquet" for seed in range(seeds)]
            for path in paths:
                write_rows(frame, path, {"model": "m", "shape": "[1, 2, 2]"})
            inputs.append({"model": "m", "attack": attack, "missing": missing, "files": [*map(str, paths)]})
        return draw_entry(artifact_entry("agreement", {"model": "m", "pairs": pairs}, inputs=inputs))

    return draw


def test_a_sweep_is_compared_epsilon_by_epsilon(drawn):
    sweep = pd.concat([rows([0, 1], [0.1, 0.1], 0.1), rows([1, 1], [0.2, 0.2], 0.2)])
    other = pd.concat([rows([0, 1], [0.1, 0.1], 0.1), rows([1, 1], [0.3, 0.3], 0.2)])
    found = drawn({"a": sweep, "b": other}, [{"attack": "a", "referee": "b"}])
    assert found.data["epsilon"].tolist() == [0.1, 0.2] and found.data["agrees"].tolist() == [True, False]
    assert found.data["success"].tolist() == [0.5, 1.0] and "| 0.2 | 2 |" in found.text and "**no**" in found.text
    with pytest.raises(RedoubtError, match="a and b: their epsilons differ"):
        drawn({"a": sweep, "b": sweep[sweep["epsilon"] == 0.1]}, [{"attack": "a", "referee": "b"}])


def test_a_search_is_one_row(drawn):
    search = rows([1, 1], [0.1, 0.2]).assign(epsilon=[0.1, np.nan])
    found = drawn({"a": search, "b": search}, [{"attack": "a", "referee": "b", "norm": "linf"}])
    assert len(found.data) == 1 and found.data["agrees"].all() and "| — | 2 | 100.0 %" in found.text


def test_runs_of_a_model_are_put_together(drawn):
    search = rows([1, 1], [0.1, 0.2]).assign(epsilon=[0.1, np.nan])
    sweep = pd.concat([rows([0, 1], [0.1, 0.1], 0.1), rows([1, 1], [0.2, 0.2], 0.2)])
    found = drawn({"a": search, "b": search}, [{"attack": "a", "referee": "b"}], seeds=3)
    assert found.data["n"].tolist() == [6] and found.data["agrees"].all()
    found = drawn({"a": sweep, "b": sweep}, [{"attack": "a", "referee": "b"}], seeds=3)
    assert found.data["n"].tolist() == [6, 6] and found.data["success"].tolist() == [0.5, 1.0]


def test_the_rule_is_shown_and_obeyed(drawn):
    frames = {"a": rows([1, 1], [0.5, 0.123456]), "b": rows([1, 1], [1.0, 1.0])}
    pairs = [{"attack": "a", "referee": "b"}, {"attack": "a", "referee": "b", "norm_rule": "not-larger"}]
    found = drawn(frames, pairs)
    assert found.data["norm_rule"].tolist() == ["equal", "not-larger"]
    assert found.data["agrees"].tolist() == [False, True]
    assert "| 0 | l2 | 0.312 | 1.00 | 0.312 | **no** |" in found.text
    assert "| 0 | l2, not larger | 0.312 | 1.00 | 0.312 | yes |" in found.text
    assert found.data["mean_norm"].tolist() == pytest.approx([0.311728] * 2)  # the CSV is not rounded


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0.0, "0"),
        (0.0905612, "0.0906"),
        (0.9996, "1.00"),
        (1.0, "1.00"),
        (4.0345, "4.03"),
        (258.4, "258"),
        (1043.7, "1044"),
    ],
)
def test_norms_are_shown_with_three_digits(size, text):
    assert agreement.rounded(size) == text


def test_what_was_not_run_is_told(drawn):
    found = drawn({"a": rows([1], [1.0]), "b": rows([1], [1.0])}, [{"attack": "a", "referee": "b"}], "no data here")
    assert found.data.empty and "- not run: no data here" in found.text
