"""Tests of differences: known answers, agreement with references that are written here, and planted null worlds."""

import itertools
from math import comb

import numpy as np
import pytest
from scipy import stats

from redoubt.judging.contrast import against, contrast, holm, mcnemar, spearman
from redoubt.judging.evidence import NoNumber, Run, Sample

IMAGES = np.arange(10)


def sample(*runs, rate=False, images=None, summary=None):
    def own(values):
        return np.arange(len(values)) if images is None else np.asarray(images)

    return Sample({seed: Run(own(run), np.asarray(run, float)) for seed, run in enumerate(runs)}, rate, summary)


def rates(right, n):
    """Return a run whose first images are right."""
    return np.repeat([1.0, 0.0], [right, n - right])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0, 0, 1.0),
        (7, 7, 1.0),
        (0, 4, 1 / 16),  # 2 * (1/16) - 1/16
        (1, 5, 2 * (1 + 6) / 64 - 6 / 64),
        (61, 23, sum(comb(84, k) for k in range(24)) * 2 / 2**84 - comb(84, 23) / 2**84),
    ],
)
def test_mcnemar_is_the_mid_p_of_the_binomial(first, second, expected):
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-12)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_two_rates_are_compared_image_by_image():
    """Both rates are 1/2; the images that differ decide, not the totals."""
    left, right = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    found = contrast(sample(left, rate=True), sample(right, rate=True))
    assert (found.effect, found.n, found.runs, found.test) == (pytest.approx(0.3), 10, 1, "McNemar's test")
    assert found.p == pytest.approx(mcnemar(3, 0))


def test_images_that_one_side_does_not_count_are_left_out():
    left = sample([1, 1, 0], rate=True, images=[2, 5, 9])
    right = sample([0, 0, 0], rate=True, images=[1, 5, 9])
    found = contrast(left, right)
    assert found.n == 2 and found.effect == pytest.approx(0.5)
    with pytest.raises(NoNumber, match="no image counts for both"):
        contrast(left, sample([1, 1], rate=True, images=[0, 1]))


def test_holm():
    """The example of Holm's procedure by hand: 4 * 0.01, 3 * 0.02, then nothing falls again, and 1 bounds all."""
    assert holm([0.04, 0.01, 0.02, 0.9]) == pytest.approx([0.08, 0.04, 0.06, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == [] and holm([0.03]) == [0.03]


def test_a_rate_against_a_number_is_a_binomial_test():
    found = against(sample(rates(9, 10), rate=True), 0.5)
    assert found.p == pytest.approx(2 * (10 + 1) / 2**10) and found.effect == pytest.approx(0.4)
    assert against(sample(rates(10, 10), rate=True), 1.0).p == 1.0


def test_means_are_compared_by_students_t():
    generator = np.random.default_rng(3)
    left, right = generator.gamma(2.0, size=200), generator.gamma(2.0, size=200)
    found = contrast(sample(left), sample(right))
    assert found.p == pytest.approx(stats.ttest_rel(left, right).pvalue)
    found = contrast(sample(left), sample(right), 1.3, 0.1)
    assert found.effect == pytest.approx(np.mean(left - 1.3 * right - 0.1))
    assert found.p == pytest.approx(stats.ttest_1samp(left - 1.3 * right - 0.1, 0).pvalue)


@pytest.mark.parametrize("n", [6, 9, 30])
def test_few_means_are_compared_by_flipping_signs(n):
    generator = np.random.default_rng(n)
    left, right = generator.normal(0.6, 1, n), generator.normal(0, 1, n)
    found, expected = contrast(sample(left), sample(right)), _flips(left - right)
    assert found.test == "signs flipped" and found.p == pytest.approx(expected, abs=0.01 if n > 12 else 1e-12)


def _flips(differences):
    if len(differences) > 12:
        return stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=20000, rng=np.random.default_rng(1)
        ).pvalue
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=len(differences))]
    return np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)


def test_five_images_decide_nothing():
    assert contrast(sample([9.0] * 5), sample([1.0] * 5)).p == pytest.approx(2 / 32)


def test_no_difference_at_all_is_not_certainty():
    """With 20 images and none that differs, a margin of 6 points is undecided; with 2 000 it is kept."""
    few, many = (sample(rates(n // 2, n), rate=True) for n in (20, 2000))
    assert contrast(few, few, 1.0, -0.06).p > 0.1 and contrast(many, many, 1.0, -0.06).p < 1e-6


def test_other_summaries_are_bootstrapped_together():
    """The standard error of a difference of medians, against one of images drawn here, not in pairs."""
    generator = np.random.default_rng(5)
    base = generator.normal(size=400)
    left, right = base + generator.normal(0.05, 0.1, 400), base + generator.normal(0, 0.1, 400)
    found = contrast(sample(left, summary=np.median), sample(right, summary=np.median))
    drawn = generator.integers(0, 400, (999, 400))
    error = np.std(np.median(left[drawn], axis=1) - np.median(right[drawn], axis=1), ddof=1)
    assert found.effect == pytest.approx(np.median(left) - np.median(right))
    expected = 2 * stats.t.sf(abs(found.effect) / error, 399)
    assert np.log(found.p) == pytest.approx(np.log(expected), rel=0.25) and found.test == "bootstrap over images"
    apart = contrast(sample(left, summary=np.median), sample(generator.permutation(right), summary=np.median))
    assert apart.p > found.p  # pairs are what makes it sure


def test_images_that_cannot_be_paired_are_two_samples():
    left = Sample({0: Run(None, rates(700, 1000))}, True)
    right = Sample({0: Run(None, rates(600, 1000))}, True)
    found = contrast(left, right)
    table = stats.chi2_contingency([[700, 300], [600, 400]], correction=False).pvalue
    assert found.test.startswith("two samples") and np.log(found.p) == pytest.approx(np.log(table), rel=0.1)


def test_runs_that_differ_make_a_result_less_sure():
    """Three runs of each side, means 0.5, 0.6, 0.7 against 0.4, 0.5, 0.6: sure over images, not over runs."""
    generator = np.random.default_rng(2)
    noise = generator.normal(0, 0.01, 1000)
    left = [noise + level for level in (0.5, 0.6, 0.7)]
    right = [generator.normal(0, 0.01, 1000) + level for level in (0.4, 0.5, 0.6)]
    assert contrast(sample(left[0]), sample(right[0])).p < 1e-10
    found = contrast(sample(*left), sample(*right))
    welch = stats.ttest_ind([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], equal_var=False).pvalue
    assert found.runs == 3 and found.p == pytest.approx(welch, rel=0.02)


def test_runs_that_agree_leave_the_images():
    generator = np.random.default_rng(4)
    values, others = generator.normal(0.1, 1, 500), generator.normal(0, 1, 500)
    single, triple = contrast(sample(values), sample(others)), contrast(sample(*[values] * 3), sample(*[others] * 3))
    assert triple.p == pytest.approx(single.p) and triple.effect == pytest.approx(single.effect)


@pytest.mark.parametrize("kind", ["rates", "margin", "means", "few", "runs", "bootstrap"])
def test_no_effect_is_rarely_significant(kind):
    """In 300 worlds without an effect about one in twenty is significant, and not many more."""
    generator, found = np.random.default_rng(11), []
    worlds = 60 if kind == "bootstrap" else 300
    for _ in range(worlds):
        n = 12 if kind == "few" else 200
        hard = generator.uniform(size=n)  # images that are hard for one model are for the other
        if kind in ("rates", "margin"):
            draws = [sample(generator.uniform(size=n) < 0.2 + 0.6 * hard, rate=True) for _ in range(2)]
        elif kind == "runs":
            levels = generator.normal(0, 0.1, (2, 4))
            draws = [sample(*(hard + level + generator.normal(0, 0.5, n) for level in own)) for own in levels]
        else:
            summary = np.median if kind == "bootstrap" else None
            draws = [sample(hard + generator.exponential(size=n), summary=summary) for _ in range(2)]
        terms = (0.5, 0.25) if kind == "margin" else (1.0, 0.0)  # the truth lies on the margin
        found.append(contrast(*draws, *terms).p <= 0.05)
    assert np.mean(found) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / worlds)


def test_an_effect_is_found():
    generator = np.random.default_rng(12)
    pairs = [(generator.uniform(size=400) < 0.8, generator.uniform(size=400) < 0.7) for _ in range(50)]
    assert np.mean([contrast(sample(a, rate=True), sample(b, rate=True)).p < 0.05 for a, b in pairs]) > 0.8


@pytest.mark.parametrize("n", [3, 5, 7, 9])
def test_rank_correlation_by_permutation(n):
    generator = np.random.default_rng(n)
    x, y = np.arange(n), np.arange(n) + generator.normal(0, 1.5, n)
    found, p = spearman(x, y)
    assert found == pytest.approx(stats.spearmanr(x, y).statistic)
    if n <= 7:
        others = [abs(stats.spearmanr(x, order).statistic) for order in itertools.permutations(y)]
        assert p == pytest.approx(np.mean(np.array(others) >= abs(found) - 1e-12))
    else:
        exact = stats.permutation_test(
            (x,), lambda order: stats.spearmanr(order, y).statistic, permutation_type="pairings", n_resamples=20000
        )
        assert p == pytest.approx(exact.pvalue, abs=0.01)


def test_three_points_in_order_prove_nothing():
    assert spearman([1, 2, 3], [1, 2, 3]) == (pytest.approx(1.0), pytest.approx(1 / 3))
    assert spearman([1, 2, 3, 4, 5], [2, 2, 2, 2, 2]) == (0.0, 1.0)
