"""Calibration, Gini index and intervals of tables, by closed forms and slow loops."""

import math

import numpy as np
import pytest

from unlir_jax.metrics.faithfulness.sparseness import gini_index
from unlir_jax.statistics import calibration, crossed

LABELS = np.asarray([0, 0, 0, 1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_logits_too_sure_is_found(temperature):
    """Half of four images are of class 0 with p = 3/4, as often as it says."""
    logits = temperature * np.log([[0.75, 0.25]] * 4)
    found = calibration.fit_temperature(logits, LABELS)
    assert found == pytest.approx(temperature, rel=1e-4)
    least = calibration.negative_log_likelihood(logits, LABELS, found)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert least == pytest.approx(entropy, abs=1e-9)
    error = calibration.expected_calibration_error(logits, LABELS, found)
    assert error == pytest.approx(0, abs=1e-5)


def test_where_all_are_right_the_temperature_is_so_cold_that_all_is_sure():
    found = calibration.fit_temperature(np.eye(3), np.arange(3))
    least = calibration.negative_log_likelihood(np.eye(3), np.arange(3), found)
    assert calibration.LEAST <= found < 0.1 and least < 1e-9


def test_calibration_error_is_that_of_a_slow_loop():
    random = np.random.default_rng(0)
    logits = 3 * random.standard_normal((200, 5))
    labels = random.integers(0, 5, 200)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, right = shares.max(1), shares.argmax(1) == labels
    expected = 0.0
    for bin in range(10):
        held = (confidence > bin / 10) & (confidence <= (bin + 1) / 10)
        if held.any():
            gap = abs(right[held].mean() - confidence[held].mean())
            expected += held.mean() * gap
    found = calibration.expected_calibration_error(logits, labels, bins=10)
    assert found == pytest.approx(expected, abs=1e-12)
    assert expected > 0.1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros((2, 3)), np.asarray([0, 3])), "`labels` goes from 0 to 3"),
        ((np.zeros((2, 3)), np.asarray([0.0, 1.0])), "expected integers"),
        ((np.zeros((2, 3)), np.zeros(3, int)), "`logits` has shape"),
        ((np.full((1, 2), np.inf), np.zeros(1, int)), "not finite"),
        ((np.zeros((1, 2)), np.zeros(1, int), 0.0), "`temperature`=0.0"),
    ],
)
def test_calibration_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        calibration.negative_log_likelihood(*arguments)


def test_gini_of_rising_numbers_one_number_and_none():
    count = 12
    rising = np.arange(1.0, count + 1)
    rows = np.stack([rising, -rising[::-1] * 1e-30, np.eye(count)[3], 0 * rising])
    expected = [(count - 1) / (3 * count)] * 2 + [1 - 1 / count, 0]
    np.testing.assert_allclose(gini_index(rows), expected, atol=1e-6)


def test_an_interval_over_both_has_the_variance_of_both():
    """A mean of resampled rows and columns of a_i + b_j is the sum of two means."""
    random = np.random.default_rng(0)
    rows, columns = random.standard_normal((40, 1)), random.standard_normal((1, 60))
    found = crossed.bootstrap_crossed(rows + columns, resamples=20_000)
    spread = math.sqrt(rows.var() / 40 + columns.var() / 60)
    assert found.mean == pytest.approx(rows.mean() + columns.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.05)
    alone = crossed.bootstrap_crossed(columns, resamples=20_000)
    spread = math.sqrt(columns.var() / 60)
    assert (alone.high - alone.low) / 2 == pytest.approx(1.96 * spread, rel=0.05)


def test_cells_without_a_number_do_not_count():
    table = np.asarray([[1.0, np.nan, 3.0], [np.nan, 2.0, np.nan]])
    assert crossed.bootstrap_crossed(table, resamples=50).mean == 2
    same = crossed.bootstrap_crossed(np.where(np.isnan(table), np.nan, 7.0))
    assert (same.mean, same.low, same.high) == (7, 7, 7)


@pytest.mark.parametrize("values", [np.zeros(3), np.full((2, 2), np.nan)])
def test_an_interval_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="`values` has shape"):
        crossed.bootstrap_crossed(values)


def test_the_sign_test_counts_heads():
    found = crossed.sign_test([1.0] * 8 + [-1.0] * 2 + [0.0])
    ways = sum(math.comb(10, k) for k in (0, 1, 2, 8, 9, 10))
    assert found[:2] == (8, 10)
    assert found.p_value == pytest.approx(ways / 2**10)
    assert crossed.sign_test([0.0]).p_value == 1
