"""Intervals and tests against closed forms, counts by hand and SciPy where it is."""

import itertools
import math

import numpy as np
import pytest

from unlir_jax.statistics import intervals, significance

SAMPLE = np.random.default_rng(0).normal(size=400)
SKEWED = np.random.default_rng(1).exponential(size=40)


def test_bootstrap_of_two_values_by_hand():
    # Means of pairs drawn from 0 and 1: 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    found = significance.bootstrap([0, 1])
    assert found == (0.5, 0.0, 1.0, 2)
    assert significance.bootstrap([0, 1], confidence=0.4) == (0.5, 0.5, 0.5, 2)


def test_bootstrap_of_a_large_sample_is_the_normal_interval():
    found = significance.bootstrap(SAMPLE)
    half = 1.96 * SAMPLE.std() / math.sqrt(len(SAMPLE))
    assert found.mean == pytest.approx(SAMPLE.mean(), abs=1e-12)
    np.testing.assert_allclose(found.low, SAMPLE.mean() - half, atol=0.06 * half)
    np.testing.assert_allclose(found.high, SAMPLE.mean() + half, atol=0.06 * half)
    assert found.n == 400


def test_acceleration_by_hand():
    # Deviations -1, -1, 2: a = 6 / (6 * 6 ** 1.5); no bias, as half lies below.
    levels = intervals._accelerated(
        np.asarray([-1.0, 1.0]), 0.0, np.asarray([-1.0, -1.0, 2.0]), (0.025, 0.975)
    )
    a, z = 6**-1.5, 1.959963984540054
    expected = [0.5 * math.erfc(x / math.sqrt(2)) for x in (z / (1 + a * z), 0)]
    expected[1] = 1 - 0.5 * math.erfc(z / (1 - a * z) / math.sqrt(2))
    np.testing.assert_allclose(levels, expected, rtol=1e-9)


def test_bootstrap_is_that_of_scipy():
    scipy_statistics = pytest.importorskip("scipy.stats")
    expected = scipy_statistics.bootstrap(
        (SKEWED,), np.mean, n_resamples=20_000, method="BCa", rng=0
    ).confidence_interval
    found = significance.bootstrap(SKEWED, resamples=20_000)
    np.testing.assert_allclose(found[1:3], expected, rtol=0.02)
    # The interval of a skewed sample reaches further up than down.
    assert found.high - found.mean > 1.1 * (found.mean - found.low)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_bootstrap_moves_and_grows_with_the_values(statistic):
    found = significance.bootstrap(SKEWED, statistic=statistic, resamples=500)
    moved = significance.bootstrap(2 * SKEWED + 3, statistic=statistic, resamples=500)
    np.testing.assert_allclose(moved[:3], 2 * np.asarray(found[:3]) + 3, rtol=1e-9)


def test_columns_are_what_they_are_alone(monkeypatch):
    table = np.stack([SKEWED, SKEWED[::-1], np.full(40, 0.1)], -1)
    found = significance.bootstrap(table, resamples=700)
    # Also when fewer resamples are held at once.
    monkeypatch.setattr(intervals, "HELD", 1000)
    for index, column in enumerate(table.T):
        alone = significance.bootstrap(column, resamples=700)
        together = [found.mean[index], found.low[index], found.high[index]]
        np.testing.assert_allclose(together, alone[:3], rtol=1e-12)
    assert found.mean.shape == found.low.shape == found.high.shape == (3,)
    assert found.n == 40


def test_bootstrap_of_what_does_not_vary():
    assert significance.bootstrap([0.1] * 7) == (0.1, 0.1, 0.1, 7)
    assert significance.bootstrap([3.0]) == (3.0, 3.0, 3.0, 1)


def test_bootstrap_depends_on_its_seed_only():
    one = significance.bootstrap(SKEWED, resamples=200, seed=3)
    assert one == significance.bootstrap(SKEWED, resamples=200, seed=3)
    assert one != significance.bootstrap(SKEWED, resamples=200, seed=4)


def test_the_median_of_three_by_hand():
    # Two zeros or more in three draws from 0, 0, 1 have the chance 20/27.
    found = significance.bootstrap([0, 0, 1], statistic="median", confidence=0.4)
    assert found == (0.0, 0.0, 0.0, 3)
    found = significance.bootstrap([0, 0, 1], statistic="median", confidence=0.6)
    assert found == (0.0, 0.0, 1.0, 3)


def test_a_paired_difference_knows_its_pairs():
    found = significance.bootstrap_difference(SAMPLE + 0.01, SAMPLE)
    np.testing.assert_allclose(found[:3], 0.01, atol=1e-12)
    assert found == significance.bootstrap(SAMPLE + 0.01 - SAMPLE)


def test_permutation_counts_signs():
    # Sums of 1, 2, 3 with signs: only +++ and --- reach 6.
    assert significance.paired_permutation([1, 2, 3], [0, 0, 0]) == 2 / 8
    assert significance.paired_permutation([0, 0, 0], [1, 2, 3]) == 2 / 8
    # Of 3 and -1 all four sums, 2, 4, -4 and -2, reach 2.
    assert significance.paired_permutation([3, 0], [0, 1]) == 1
    assert significance.paired_permutation([0.1, 0.7], [0.1, 0.7]) == 1


def test_permutation_is_a_slow_loop(monkeypatch):
    differences = np.round(np.random.default_rng(2).normal(0.3, 1, size=11), 1)
    zeros = np.zeros(11)
    hits = [
        abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-9
        for signs in itertools.product((-1, 1), repeat=11)
    ]
    exact = significance.paired_permutation(differences, zeros)
    assert exact == np.mean(hits)
    monkeypatch.setattr(significance, "EXACT_FLIPS", 0)
    drawn = significance.paired_permutation(differences, zeros, resamples=20_000)
    deviation = math.sqrt(exact * (1 - exact) / 20_000)
    assert abs(drawn - exact) < 4 * deviation


def test_a_drawn_p_value_is_never_zero():
    found = significance.paired_permutation(np.ones(60), np.zeros(60), resamples=99)
    assert found == 0.01


def test_wilcoxon_by_hand():
    assert significance.wilcoxon([1, 2, 3, 4, 5], [0] * 5) == (15, 2 / 32, 5)
    # -1, 2, 3: of 8 subsets of the ranks, two have a sum of at most 1.
    assert significance.wilcoxon([0, 2, 3], [1, 0, 0]) == (5, 0.5, 3)
    # A zero is dropped, and 0.3 - 0.2 is tied with 0.1.
    found = significance.wilcoxon([0.3, 0.1, 5.0, 0.0], [0.2, 0.0, 5.0, 0.4])
    # Ranks 1.5, 1.5 and 3: of 8 subsets, five have a sum of at most 3.
    assert found == (3, 1, 3)
    assert significance.wilcoxon([1, 2], [1, 2]) == (0, 1, 0)


def test_wilcoxon_of_few_equal_differences_is_not_below_the_least_p_value():
    """SciPy 1.18.1 counts the same; the normal's 0.0197 would be less than 2 / 64."""
    assert significance.wilcoxon([0.1] * 6, [0] * 6) == (21, 2 / 64, 6)
    assert significance.wilcoxon([1], [0]).p_value == 1


@pytest.mark.parametrize("seed", range(6))
def test_wilcoxon_of_few_pairs_is_that_of_all_signs(seed):
    """With ties and zeros: each sign of each difference that is not zero, counted."""
    values = np.random.default_rng(seed).integers(-2, 5, size=9).astype(float)
    left = values[values != 0]
    sizes = np.abs(left)
    ranks = np.array([(sizes < s).sum() + ((sizes == s).sum() + 1) / 2 for s in sizes])
    middle = ranks.sum() / 2
    far = abs(ranks[left > 0].sum() - middle)
    sums = [
        np.dot(chosen, ranks) for chosen in itertools.product((0, 1), repeat=len(left))
    ]
    expected = np.mean([abs(one - middle) >= far for one in sums])
    found = significance.wilcoxon(values, np.zeros(9))
    assert found.p_value == pytest.approx(expected, rel=1e-12)
    assert found.n == len(left)


@pytest.mark.parametrize(
    ("n", "ties"),
    # SciPy has no exact method for ties of more than some 13 pairs.
    [(4, False), (12, False), (50, False), (4, True), (12, True)]
    + [(51, False), (200, False), (51, True), (200, True)],
)
def test_wilcoxon_is_that_of_scipy(n, ties):
    scipy_statistics = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(n).normal(0.2, 1, size=n)
    if ties:
        differences = np.round(2 * differences) + 0.5
    exact = n <= 50
    method = "exact" if exact else "approx"
    if exact and ties:
        # What SciPy calls exact is of ranks without ties.
        method = scipy_statistics.PermutationMethod(n_resamples=2**n)
    expected = scipy_statistics.wilcoxon(
        differences, method=method, correction=not exact
    )
    found = significance.wilcoxon(differences, np.zeros(n))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    least = min(found.statistic, n * (n + 1) / 2 - found.statistic)
    assert least == expected.statistic


def test_holm_by_hand():
    found = significance.holm([0.01, 0.04, 0.03])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06], rtol=1e-12)
    np.testing.assert_allclose(significance.holm([0.9, 0.5]), [1, 1])
    assert significance.holm([0.2]).tolist() == [0.2]


def test_win_rate_by_hand():
    assert significance.win_rate([1, 2, 3, 4], [0, 2, 4, 1]) == 2.5 / 4
    one, other = SAMPLE[:200], SAMPLE[200:]
    both = significance.win_rate(one, other) + significance.win_rate(other, one)
    assert both == 1


def test_spearman_by_hand():
    # Without ties: 1 - 6 * sum d^2 / (n (n^2 - 1)), here sum d^2 = 1 + 1 + 4 + 4.
    found = significance.spearman([1, 2, 3, 4, 5], [20, 10, 50, 40, 30])
    assert found.value == pytest.approx(1 - 6 * (1 + 1 + 4 + 4) / 120)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    tied = significance.spearman([1, 2, 2, 3], [1, 2, 3, 4])
    assert tied.value == pytest.approx(math.sqrt(0.9)) and not tied.constant
    assert significance.spearman([1, 1, 1], [1, 2, 3]) == (0.0, True)


def test_spearman_knows_order_only():
    one, other = SAMPLE[:50], SAMPLE[50:100] + SAMPLE[:50]
    found = significance.spearman(one, other).value
    assert significance.spearman(np.exp(one), other**3).value == pytest.approx(found)
    assert significance.spearman(-one, other).value == pytest.approx(-found)
    order = np.random.default_rng(0).permutation(50)
    shuffled = significance.spearman(one[order], other[order]).value
    assert shuffled == pytest.approx(found)


def test_spearman_interval_of_perfect_order():
    found = significance.spearman_interval(np.arange(30), np.arange(30) ** 3)
    np.testing.assert_allclose(found[:3], 1)
    assert found.n == 30


def test_spearman_interval_of_noise_is_fishers():
    random = np.random.default_rng(0)
    found = significance.spearman_interval(*random.normal(size=(2, 300)))
    # The deviation of the correlation of independent ranks is 1 / sqrt(n - 1).
    width = 2 * 1.96 / math.sqrt(299)
    assert found.high - found.low == pytest.approx(width, rel=0.1)
    assert found.low < found.mean < found.high


def test_items_drawn_together_count_once():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 25))
    alone = significance.spearman_interval(one, other, resamples=300)
    # Two of each: ranks double, correlations stay.
    groups = np.tile(np.arange(25), 2)
    twice = significance.spearman_interval(
        np.tile(one, 2), np.tile(other, 2), groups=groups, resamples=300
    )
    np.testing.assert_allclose(twice[:3], alone[:3], rtol=1e-9)
    assert twice.n == alone.n == 25


def test_bad_input_is_one_sentence(unchecked):
    bad = [
        (
            lambda: significance.bootstrap([1.0, math.nan]),
            "holds 1 values that are not",
        ),
        (lambda: significance.bootstrap([]), r"shape \(0,\)"),
        (lambda: significance.bootstrap(np.zeros((2, 2, 2))), r"\[n\] or \[n, k\]"),
        (lambda: significance.bootstrap([1], confidence=1.0), "`confidence`=1.0"),
        (lambda: significance.bootstrap([1], resamples=0), "`resamples`=0"),
        (lambda: significance.bootstrap([1], statistic="sum"), "'sum'.*'median'"),
        (lambda: significance.bootstrap_difference([1, 2], [1]), r"\(1,\).*\(2,\)"),
        (lambda: significance.win_rate([1], [math.inf]), "not finite"),
        (lambda: significance.wilcoxon([[1]], [[1]]), r"expected \[n\]"),
        (lambda: significance.holm([0.5, 1.5]), "holds 1.5"),
        (lambda: significance.holm([0.5, -0.5]), "holds -0.5"),
        (lambda: significance.spearman([1], [1]), "at least 2"),
        (
            lambda: significance.spearman_interval(
                [1, 2], [1, 2], groups=np.zeros(3, int)
            ),
            "`groups` has 3",
        ),
    ]
    for call, message in bad:
        with pytest.raises(ValueError, match=message):
            call()
