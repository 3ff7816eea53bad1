"""Metrics by hand, and what their intervals promise."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from redoubt import registry
from redoubt.attacks.interface import Crafted, score
from redoubt.errors import RedoubtError
from redoubt.judging.estimate import NoValue, estimate
from redoubt.judging.intervals import bootstrap, wilson
from redoubt.metrics.interface import Metric, read, spelt

ROWS = pd.DataFrame(
    {
        "label": [0, 1, 2, 3],
        "clean_label": [0, 1, 2, 7],
        "adversarial_label": [0, 5, 6, 3],
        "l2": [0.0, 3.0, 2.0, 5.0],
        "x_l2": [10.0, 6.0, 4.0, 20.0],
        "linf": [0.0, 1.0, 1.0, 1.0],
        "x_linf": [2.0, 2.0, 4.0, 8.0],
        "probability_label": [0.9, 0.1, 0.2, 0.6],
        "probability_adversarial": [0.9, 0.5, 0.4, 0.6],
        "epsilon": [float("nan"), 0.25, 0.5, 0.125],
        "detected": [True, False, True, False],
        "rho": [0.5] * 4,
        "radius": [2.0] * 4,
        "gradient": [1.0, 2.0, 4.0, 9.0],
        "gradient_straight_through": [1.0, 1.0, 3.0, 3.0],
        "attention_distance": [0.0, 0.5, 0.25, 0.25],
        "spread": [0.5, 0.5, 0.25, 0.25],
        "zero_signs": [0.0, 0.5, 0.25, 0.25],
        "wrong_signs": [0.0, 0.0, 0.5, 0.0],
        "loss": [0.5, 1.0, 1.5, 4.0],
        "seconds": [1.0, 4.0, 9.0, 2.5],
        "seconds_plain": [1.0, 2.0, 3.0, 1.0],
    }
)
RHO_2, SIZE = "norm(order=l2,relative=true)", "norm(order=l2,over=fooled,scale=255)"
EXPECTED = {
    "accuracy": 3 / 4,
    "accuracy(at=attacked)": 2 / 4,
    "error-rate": 2 / 4,
    "fooling-rate": 3 / 4,
    "class-share(label=3)": 1 / 3,
    "class-share(label=0)": 0.0,
    "norm(order=l2,relative=true)": (0 + 0.5 + 0.5 + 0.25) / 4,
    "norm(order=l2)": 2.5,
    "norm(order=linf,relative=true)": (0 + 0.5 + 0.25 + 0.125) / 4,
    "probability(of=label)": 0.45,
    "probability(of=prediction)": 0.6,
    "fooling-rate(over=correct)": 2 / 3,
    "norm(order=l2,over=fooled,scale=255)": 255 * (3 + 2 + 5) / 3,
    "norm(order=linf,over=fooled,scale=255)": 255.0,
    "largest-epsilon": 1.0,
    "detection-rate": 2 / 4,
    "fooling-rate(unreported=true)": 2 / 4,
    "fooling-rate(over=correct,unreported=true)": 1 / 3,
    "norm(order=l2,over=fooled,relative=true)": (0.5 + 0.5 + 0.25) / 3,
    "applied-rho": 2.5 * 0.5 / 2.0,
    "gradient-norm": 3.0,
    "gradient-norm(straight_through=true)": 2.0,
    "peer-spread(of=attention)": 0.25,
    "peer-spread(of=neighbours)": 0.375,
    "gradient-signs(that=vanish)": 0.25,
    "gradient-signs(that=flip)": 0.125,
    "loss": 1.75,
    "time-ratio": (2.0 + 2.5) / 2,
}
THREE = ("over=", "class-share")  # images are correct, or fooled


def test_every_metric_has_a_hand_computed_value():
    assert {type(read(metric)) for metric in EXPECTED} == {
        registry.method("metrics", name).Parameters for name in registry.names("metrics")
    }


@pytest.mark.parametrize("metric", EXPECTED)
def test_values_by_hand(metric):
    found = estimate(metric, ROWS)
    assert found.value == pytest.approx(EXPECTED[metric], rel=1e-12) and found.n == (
        3 if any(part in metric for part in THREE) else 4
    )
    assert found.low <= found.value <= found.high and (found.low < found.high or "linf,over=fooled" in metric)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (9831, 10000), (1, 1), (50, 100)])
def test_wilson_agrees_with_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.98])
def test_wilson_covers_the_rate_as_often_as_promised(rate):
    draws = np.random.default_rng(1).binomial(200, rate, 4000)
    inside = [low <= rate <= high for low, high in (wilson(int(k), 200) for k in draws)]
    assert 0.93 <= np.mean(inside) <= 0.97


def test_bootstrap_is_the_same_each_time_and_near_the_normal_interval():
    values = np.random.default_rng(2).gamma(2.0, 1.0, 1000)
    low, high = bootstrap(values)
    assert (low, high) == bootstrap(values)
    half = 1.96 * values.std() / 1000**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_of_equal_values_has_no_width():
    assert bootstrap(np.full(20, 0.25)) == (0.25, 0.25)


def test_rates_use_wilson_and_means_the_bootstrap():
    found = estimate("accuracy", ROWS)
    assert (found.low, found.high) == wilson(3, 4)
    found = estimate(RHO_2, ROWS)
    assert (found.low, found.high) == bootstrap(np.array([0, 0.5, 0.5, 0.25]))


@pytest.mark.parametrize("change", [{"l2": float("nan")}, {"l2": float("inf")}, {"x_l2": 0.0, "l2": 0.0}])
def test_values_that_are_not_finite_are_refused(change):
    rows = ROWS.copy()
    for column, value in change.items():
        rows.loc[2, column] = value
    with pytest.raises(RedoubtError, match=r"^norm\(order=l2,relative=true\): 4 rows, 1 of them not finite"):
        estimate(RHO_2, rows)
    with pytest.raises(RedoubtError, match="0 rows"):
        estimate("accuracy", ROWS.iloc[:0])


def test_images_to_which_a_metric_does_not_apply_do_not_count():
    still = ROWS.assign(adversarial_label=ROWS["clean_label"])
    for metric in (SIZE, SIZE.replace("l2", "linf")):
        with pytest.raises(NoValue, match=r"^no image was fooled$"):
            estimate(metric, still)
    with pytest.raises(NoValue, match=r"^no attacked image is labelled correctly$"):
        estimate("fooling-rate(over=correct)", ROWS.assign(clean_label=9))
    with pytest.raises(RedoubtError, match=": 0 rows"):
        estimate(SIZE, ROWS.iloc[:0])
    found = estimate("fooling-rate(over=correct)", ROWS)
    assert (found.low, found.high) == wilson(2, 3)
    twice = pd.concat([ROWS, ROWS.assign(l2=0.0)])  # seeds below each other have the same index
    assert estimate(SIZE, twice).value == pytest.approx(255 * 10 / 6)
    with pytest.raises(RedoubtError, match=": 3 rows, 1 of them not finite"):
        estimate(SIZE, ROWS.assign(l2=[0.0, float("nan"), 1.0, 1.0]))


@pytest.mark.parametrize(
    ("epsilons", "expected"), [([0.1, 0.4, 0.2], 0.4), ([0.1, 1.7, 0.2], 1.0), ([0.1, float("nan"), 0.2], 1.0)]
)
def test_the_largest_epsilon_is_the_whole_range_at_most(epsilons, expected):
    found = estimate("largest-epsilon", pd.DataFrame({"epsilon": epsilons}))
    assert (found.value, found.high, found.n) == (expected, expected, 3) and found.low < expected


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(RedoubtError, match=r"^detection-rate: the attack's rows have no column 'detected'$"):
        estimate("detection-rate", ROWS.drop(columns="detected"))


def test_an_image_counts_once_however_often_it_is_scored():
    rows = pd.DataFrame(
        {"index": [0, 1, 2, 3], "seed": 0, "label": 0, "clean_label": 0, "adversarial_label": [0, 1, 1, 1]}
    )
    again = rows.assign(adversarial_label=[0, 0, 1, 1])
    both = pd.concat([rows.assign(repetition=0), again.assign(repetition=1)], ignore_index=True)
    found = estimate("fooling-rate", both)
    assert (found.value, found.n) == (0.625, 4)
    assert (found.low, found.high) == wilson(2.5, 4)


def test_the_worst_of_repetitions_counts_images_that_are_right_each_time():
    rows = pd.DataFrame(
        {
            "index": [0, 1, 2, 3] * 4,
            "seed": [0] * 8 + [1] * 8,
            "repetition": [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4,
            "label": 0,
            "clean_label": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "adversarial_label": [0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    ).sample(frac=1, random_state=0)
    found = {
        (at, over): estimate(f"accuracy(at={at},over={over})", rows).value
        for at in ("clean", "attacked")
        for over in ("mean", "worst")
    }
    assert (found["clean", "mean"], found["clean", "worst"]) == (15 / 16, 7 / 8)
    assert (found["attacked", "mean"], found["attacked", "worst"]) == ((3 / 8 + 7 / 8) / 2, (1 / 4 + 3 / 4) / 2)


def test_the_loss_is_the_mean_entropy_and_large_logits_do_not_overflow_it(affine):
    network = affine(torch.tensor([[1e4, 0.0], [0.0, 0.0], [0.0, 1e4]]), torch.zeros(3))
    images, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).view(3, 1, 1, 2), torch.tensor([0, 0, 0])
    facts = score(network, Crafted(0, images), images, labels)
    assert facts["loss"].tolist() == pytest.approx([0.0, 1e4, math.log(2.0)], rel=1e-6)
    found = estimate("loss", pd.DataFrame({"loss": facts["loss"].numpy()}))
    assert found.value == pytest.approx((1e4 + math.log(2.0)) / 3, rel=1e-6) and found.n == 3


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "spelling"),
    [
        ("accuracy", "accuracy"),
        ({"name": "accuracy"}, "accuracy"),
        ({"name": "accuracy", "at": "clean"}, "accuracy"),
        ({"name": "accuracy", "at": "attacked"}, "accuracy(at=attacked)"),
        ("accuracy( at = attacked )", "accuracy(at=attacked)"),
        ({"scale": 255, "over": "fooled", "name": "norm", "order": "linf"}, "norm(order=linf,over=fooled,scale=255)"),
        ("norm(relative=true,order=l2,scale=1)", "norm(order=l2,relative=true)"),
        ("fooling-rate(unreported=false)", "fooling-rate"),
    ],
)
def test_a_metric_has_one_spelling_however_it_is_named(named, spelling):
    assert spelt(named) == spelling and read(spelling).spelling == spelling


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ("acuracy", "'acuracy' is not one of accuracy, applied-rho, "),
        ({"at": "clean"}, "'' is not one of accuracy, "),
        ("interface", "'interface' is not one of"),
        (3, "'3' is not one of"),
        ("accuracy(at=attacked", r"'accuracy(at=attacked' is not one of"),
        ("norm", "order: this key is required"),
        ({"name": "norm", "order": "l3"}, "order: 'l3': Input should be 'l2' or 'linf'"),
        ("accuracy(under=correct)", "under: unknown key"),
        ("norm(order=l2,relative=true,scale=255)", "a norm relative to that of the input has no scale"),
    ],
)
def test_a_metric_that_does_not_exist_is_one_line(named, problem):
    with pytest.raises(ValueError) as caught:
        spelt(named)
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_values_are_printed_in_the_unit_of_the_parameters():
    assert {name: read(name).unit for name in ("accuracy", "norm(order=l2)", RHO_2)} == {
        "accuracy": "percent", "norm(order=l2)": "plain", RHO_2: "scientific",
    }  # fmt: skip
    assert read("accuracy").KIND == "rate" and read(RHO_2).KIND == "mean"


@pytest.mark.parametrize("metric", EXPECTED)
def test_metrics_are_computed_of_rows_drawn_again(metric):
    """As a resampling of images does: by position, so that rows and their index occur several times."""
    found = read(metric)
    again = ROWS.iloc[[3, 1, 1, 2, 1]]
    counted = again[found.applies(again)]
    values = np.asarray(found.values(counted), dtype=float)
    fresh = again.reset_index(drop=True)
    expected = np.asarray(found.values(fresh[found.applies(fresh)]), dtype=float)
    assert isinstance(found, Metric) and values.tolist() == expected.tolist() and len(values) >= 3
    assert found.summary(values) == found.summary(expected)
