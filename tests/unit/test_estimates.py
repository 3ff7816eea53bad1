"""What intervals are over: test images, training runs, repetitions, and epsilons that were searched."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import lognorm, t

from redoubt.attacks import fgs
from redoubt.attacks._searched import NEAR
from redoubt.attacks.interface import Batches, Context, score
from redoubt.judging import intervals
from redoubt.judging.contrast import contrast
from redoubt.judging.estimate import estimate
from redoubt.judging.evidence import Run, Sample
from redoubt.judging.intervals import bootstrap, wilson
from redoubt.judging.search import crossing, with_search

RHO_INF = "norm(order=linf,relative=true)"

RHO_2 = "norm(order=l2,relative=true)"

GIVEN = "test images, given these weights"


def world(thresholds, reads=None, **parameters):
    """Rows of FGS on images that are each misclassified from a threshold on."""
    inputs = torch.tensor(thresholds, dtype=torch.float32)[:, None]
    labels = torch.zeros(len(inputs), dtype=torch.int64)

    def network(moved):
        return torch.cat([moved, -moved], dim=1)

    frames = []
    batches, context = Batches(inputs, labels, 256), Context(torch.Generator(), reads=reads)
    for part in fgs.run(network, batches, fgs.Parameters(**parameters), context):
        own = slice(part.start, part.start + len(part.inputs))
        facts = score(network, part, inputs[own], labels[own])
        facts.pop("logits")
        columns = {name: fact.numpy() if torch.is_tensor(fact) else fact for name, fact in facts.items()}
        frames.append(pd.DataFrame(columns).assign(index=np.arange(own.start, own.stop)))
    return pd.concat(frames, ignore_index=True).assign(x_linf=1.0)  # so that rho_inf is epsilon


SPREAD = lognorm(0.5)


def drawn(seed, n):
    return SPREAD.rvs(n, random_state=seed)


def without_search(rows):
    return rows.drop(columns=["searched", "searched_wrong", "search_share", "near", "near_label"])


def test_draws_of_images_are_the_same_in_blocks_and_one_by_one(monkeypatch):
    values, generator = np.random.default_rng(1).random(30), np.random.default_rng(0)
    alone = [generator.integers(0, 30, 30) for _ in range(7)]
    monkeypatch.setattr(intervals, "BLOCK", 100)
    blocks = [*intervals.drawn(30, 7)]
    assert [len(block) for block in blocks] == [3, 3, 1] and (np.concatenate(blocks) == alone).all()
    assert [*intervals.resampled(30, lambda places: values[places].mean(), 7)] == [
        values[places].mean() for places in alone
    ]


def test_a_searched_epsilon_has_the_error_of_a_median():
    n = 1000
    half = 1.96 * math.sqrt(0.25 / n) / SPREAD.pdf(SPREAD.median())
    worlds = [estimate(RHO_INF, world(drawn(seed, n), error=0.5)) for seed in range(16)]
    assert np.mean([each.high - each.low for each in worlds]) / 2 == pytest.approx(half, rel=0.1)
    found = worlds[0]
    assert found.value == pytest.approx(np.median(drawn(0, n)), rel=2e-3) and found.over == GIVEN
    assert found.low < found.low_90 < found.value < found.high_90 < found.high
    fixed = estimate(RHO_INF, without_search(world(drawn(0, n), error=0.5)))
    assert fixed.value == found.value and fixed.high - fixed.low < 0.05 * half


def test_the_interval_of_a_searched_epsilon_covers_the_median():
    found = [estimate(RHO_INF, world(drawn(seed, 150), error=0.5)) for seed in range(60)]
    inside = [each.low <= SPREAD.median() <= each.high for each in found]
    assert 0.86 <= np.mean(inside) <= 1


def values_of(thresholds):
    rows = world(thresholds, error=0.5)
    return with_search(rows, (rows["linf"] / rows["x_linf"]).to_numpy())


def test_values_with_a_search_have_its_error():
    n = 1000
    error = math.sqrt(0.25 / n) / SPREAD.pdf(SPREAD.median())
    found = [values_of(drawn(seed, n)) for seed in range(16)]
    assert np.mean([own.std(ddof=1) for own in found]) / math.sqrt(n) == pytest.approx(error, rel=0.1)
    assert found[0].mean() == pytest.approx(np.median(drawn(0, n)), rel=2e-3)
    assert with_search(without_search(world(drawn(0, 50), error=0.5)), np.ones(50)) is None


def test_two_searched_epsilons_are_compared_in_pairs():
    """In 100 worlds of two equal models, which find the same images hard, about one in twenty differs; a gain shows."""

    def tested(seed, gain):
        hard, own = drawn(seed, 300), np.exp(np.random.default_rng(seed).normal(0, 0.2, (2, 300)))
        pair = [Sample({0: Run(np.arange(300), values_of(level * hard))}, False) for level in own * [[gain], [1.0]]]
        return contrast(*pair).p

    assert np.mean([tested(seed, 1.0) <= 0.05 for seed in range(100)]) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)
    assert np.mean([tested(seed, 1.15) <= 0.05 for seed in range(30)]) > 0.8


def reference(seed, n, q=1.0):
    """Rows at a fraction of the epsilon that misclassifies half of the images of an independent model."""
    rows = world(drawn(seed, n), error=0.5)
    return world(drawn(10_000 + seed, n), reads=rows, fractions=[q])


def test_accuracy_at_a_searched_epsilon_has_the_error_of_both():
    n, q = 1000, 0.7
    worlds = [estimate("accuracy(at=attacked)", reference(seed, n, q)) for seed in range(16)]
    found = worlds[0]
    middle = SPREAD.median()
    rate, slope = SPREAD.sf(q * middle), q * SPREAD.pdf(q * middle) / SPREAD.pdf(middle)
    half = 1.96 * math.sqrt((rate * (1 - rate) + 0.25 * slope**2) / n)
    assert found.value == pytest.approx(rate, abs=0.06) and found.over == GIVEN
    mean = np.mean([each.high - each.low for each in worlds])
    low, high = wilson(rate * n, n)
    assert mean / 2 == pytest.approx(half, rel=0.1) and mean > 1.2 * (high - low)


def test_accuracy_at_the_epsilon_of_the_same_model_is_known_by_construction():
    rows = world(drawn(3, 500), error=0.5)
    own = estimate("accuracy(at=attacked)", world(drawn(3, 500), reads=rows, fractions=[1.0]))
    assert own.value == pytest.approx(0.5, abs=0.003) and own.high - own.low < 0.02


def test_the_interval_of_accuracy_at_a_searched_epsilon_covers():
    found = [estimate("accuracy(at=attacked)", reference(seed, 150)) for seed in range(60)]
    assert 0.86 <= np.mean([each.low <= 0.5 <= each.high for each in found]) <= 1


def test_rows_keep_the_search_and_what_is_near():
    rows = world(thresholds := drawn(5, 40), error=0.5)
    assert len(rows) == 40
    for row in rows.to_dict("records"):
        threshold = np.float32(thresholds[row["index"]])
        assert row["searched_wrong"].tolist() == [epsilon > threshold for epsilon in row["searched"]]
        assert row["near"].tolist() == [factor * row["epsilon"] for factor in NEAR]
        assert row["near_label"].tolist() == [int(epsilon > threshold) for epsilon in row["near"]]
    tried = rows["searched"][0].tolist()
    assert sorted(tried) == tried and set(rows["near"][0]) <= set(tried)
    below = world(drawn(6, 40), reads=rows, fractions=[0.5, 1.0])
    assert below.groupby("fraction").size().tolist() == [40, 40]
    assert below["searched_wrong"].tolist()[0].tolist() == rows["searched_wrong"][0].tolist()
    for without in ({"reads": rows[:20], "fractions": [0.5]}, {"epsilons": [0.1]}):
        assert "near" not in world(drawn(6, 40), **without)


def test_a_search_that_saw_another_model_is_not_repeated():
    rows = world(drawn(0, 60), error=0.5)
    other = rows.assign(adversarial_label=1 - rows["adversarial_label"])
    found = estimate(RHO_INF, other)
    assert found.over == "test images, given these weights and this epsilon" and found.low == found.high
    both = pd.concat([rows.assign(seed=0), other.assign(seed=1)])
    assert estimate(RHO_INF, both).over == "test images and training runs, given this epsilon"


@pytest.mark.parametrize(
    ("rate", "share", "expected"),
    [([0, 0.4, 0.6, 1], 0.5, 2.5), ([0, 0.5, 0.6, 1], 0.5, 2), ([0.6, 0.7, 0.8, 1], 0.5, 1), ([0, 0, 0, 0.2], 0.5, 4)],
)
def test_a_rate_is_crossed_between_grid_points(rate, share, expected):
    assert crossing(np.array([1.0, 2.0, 3.0, 4.0]), np.array([rate, rate]), share) == pytest.approx([expected] * 2)


# -- runs and repetitions ---------------------------------------------------------------------------------------------


def sizes(values, **columns):
    return pd.DataFrame({"l2": values, "x_l2": 1.0, "index": np.arange(len(values))} | columns)


def test_one_run_has_the_interval_of_its_images():
    values = np.random.default_rng(0).gamma(2.0, 1.0, 300)
    found = estimate(RHO_2, sizes(values, seed=3))
    assert (found.low, found.high) == bootstrap(values)
    assert (found.std, found.std_repetitions, found.seeds, found.over) == (None, None, 1, GIVEN)


def test_three_runs_have_at_least_the_interval_of_their_mean():
    runs, noise = [0.2253, 0.2236, 0.2302], np.random.default_rng(0).normal(0, 0.05, 10_000)
    noise -= noise.mean()
    found = estimate(RHO_2, pd.concat([sizes(run + noise, seed=seed) for seed, run in enumerate(runs)]))
    spread = np.std(runs, ddof=1)
    half = t.ppf(0.975, 2) * spread / math.sqrt(3)
    assert found.value == pytest.approx(np.mean(runs)) and found.std == pytest.approx(spread, rel=1e-9)
    images = 1.96 * noise.std() / 100
    assert found.high - found.value == pytest.approx(math.hypot(half, images), rel=0.02) and half > 0.0085
    assert found.low_90 > found.low and found.n == 10_000 and found.seeds == 3
    assert found.over == "test images and training runs"


def test_images_that_all_runs_share_are_drawn_once():
    hard = np.random.default_rng(1).gamma(2.0, 1.0, 500)
    one = estimate(RHO_2, sizes(hard, seed=0))
    same = estimate(RHO_2, pd.concat([sizes(hard, seed=seed) for seed in range(4)]))
    assert (same.low, same.high) == pytest.approx((one.low, one.high)) and same.std == 0
    rate = pd.DataFrame({"label": 0, "clean_label": (hard > 3).astype(int), "index": np.arange(500)})
    both = pd.concat([rate.assign(seed=0), rate.assign(seed=1)])
    assert estimate("accuracy", both).low == pytest.approx(wilson(int((hard <= 3).sum()), 500)[0])


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_the_interval_over_runs_covers_the_mean_of_all_runs(runs):
    draw, inside = np.random.default_rng(runs), []
    for _ in range(60):
        images, levels = draw.normal(0, 1, 60), draw.normal(5, 0.15, runs)
        parts = [sizes(level + images + draw.normal(0, 0.3, 60), seed=seed) for seed, level in enumerate(levels)]
        found = estimate(RHO_2, pd.concat(parts))
        inside.append(found.low <= 5 <= found.high)
    assert np.mean(inside) >= 0.87


def test_repetitions_of_a_random_model_have_a_deviation():
    values = np.random.default_rng(0).gamma(2.0, 1.0, 200)
    rows = pd.concat([sizes(values + shift, seed=0, repetition=k) for k, shift in enumerate([0.0, 0.3, -0.3])])
    found, one = estimate(RHO_2, rows), estimate(RHO_2, sizes(values, seed=0))
    assert found.std_repetitions == pytest.approx(0.3) and found.std is None
    assert found.over == "test images and repetitions, given these weights" and found.n == 200
    assert found.high - found.value == pytest.approx(math.hypot(4.3027 * 0.3 / 3**0.5, one.high - one.value), rel=1e-2)


def test_repetitions_that_images_do_not_share_add_nothing():
    draw = np.random.default_rng(0)
    rows = pd.concat([sizes(draw.normal(5, 1, 400), seed=0, repetition=k) for k in range(5)])
    found = estimate(RHO_2, rows)
    one = estimate(RHO_2, sizes(rows.groupby("index")["l2"].mean().to_numpy(), seed=0))
    assert found.high - found.low < 1.5 * (one.high - one.low)
    assert found.std_repetitions == pytest.approx(1 / 20, rel=0.6)


@pytest.mark.parametrize("right", [[[1, 1, 0], [0, 0, 0]], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]])
def test_a_value_in_one_repetition_alone_has_no_deviation(right):
    """Of a weak random model, another draw may label no image correctly."""
    parts = [
        pd.DataFrame({"label": 0, "clean_label": 1 - np.array(part), "adversarial_label": 1, "repetition": number})
        for number, part in enumerate(right)
    ]
    rows = pd.concat([part.assign(index=np.arange(3), seed=0) for part in parts])
    found = estimate("fooling-rate(over=correct)", rows)
    assert (found.value, found.n, found.std_repetitions, found.over) == (1.0, sum(right[0]), None, GIVEN)
    later = rows[rows["repetition"] == 0].assign(repetition=2, adversarial_label=0)
    assert estimate("fooling-rate(over=correct)", pd.concat([rows[rows["repetition"] < 2], later])).std_repetitions > 0
    other = rows[rows["repetition"] == 0].assign(seed=1)
    assert estimate("fooling-rate(over=correct)", pd.concat([rows, other])).std_repetitions is None
