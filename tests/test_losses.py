import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unlir_jax.objectives import losses

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 3, (6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 3, 0], np.int32)


def log_softmax(logits):
    """Compute it in double precision."""
    wide = logits.astype(np.float64)
    wide = wide - wide.max(1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_targets_are_smoothed_as_by_optax(smoothing):
    actual = losses.targets(LABELS, 4, smoothing)
    expected = optax.smooth_labels(jnp.eye(4)[LABELS], smoothing)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    np.testing.assert_allclose(actual.sum(1), np.ones(6), rtol=1e-6)


def test_targets_of_no_class_are_zeros():
    labels = np.array([-1, 1], np.int32)
    actual = losses.targets(labels, 2, 0.2)
    np.testing.assert_allclose(actual, [[0, 0], [0.1, 0.9]], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_in_double_precision(smoothing):
    distribution = losses.targets(LABELS, 4, smoothing)
    expected = -(np.asarray(distribution, np.float64) * log_softmax(LOGITS)).sum(1)
    actual = losses.cross_entropy(LOGITS, distribution)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_cross_entropy_of_halves_is_computed_in_float32():
    halves = jnp.asarray(LOGITS, jnp.bfloat16)
    distribution = losses.targets(LABELS, 4)
    actual = losses.cross_entropy(halves, distribution)
    rounded = log_softmax(np.asarray(halves, np.float32))
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, -rounded[np.arange(6), LABELS], rtol=1e-5)


def test_cross_entropy_survives_large_logits():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    labels = np.zeros(2, np.int32)
    actual = losses.cross_entropy(logits, losses.targets(labels, 2))
    np.testing.assert_array_equal(actual, [0, 1e4])


@pytest.mark.parametrize("top", [1, 2, 3, 4])
def test_correct_is_the_place_in_the_order(top):
    order = np.argsort(-LOGITS, axis=1)[:, :top]
    expected = [label in row for label, row in zip(LABELS, order, strict=True)]
    actual = losses.correct(LOGITS, LABELS, top)
    np.testing.assert_array_equal(actual, np.array(expected, np.float32))


def test_ties_and_nans_are_wrong():
    nan = np.nan
    logits = np.array([[2, 2, 0], [1, 1, 1], [nan, 0, 0], [nan, 1, 0], [nan] * 3], "f")
    labels = np.array([0, 2, 0, 1, 0], np.int32)
    for top, expected in ((1, [0, 0, 0, 0, 0]), (2, [1, 0, 0, 1, 0])):
        np.testing.assert_array_equal(losses.correct(logits, labels, top), expected)


def test_a_label_that_is_no_class_is_wrong():
    logits = np.array([[0, 1], [1, 0], [0, 1]], np.float32)
    labels = np.array([-1, -2, 2], np.int32)
    np.testing.assert_array_equal(losses.correct(logits, labels), np.zeros(3))


def test_weighted_total():
    values = np.array([1.0, 2.0, np.nan, np.inf], np.float32)
    weight = np.array([1.0, 0.5, 0.0, 0.0], np.float32)
    assert float(losses.weighted_total(values, weight)) == 2.0
    slopes = jax.grad(losses.weighted_total, (0, 1))(values, weight)
    np.testing.assert_array_equal(slopes[0], weight)
    np.testing.assert_array_equal(slopes[1], [1, 2, 0, 0])
    counted = np.ones(4, np.float32)
    assert np.isnan(float(losses.weighted_total(values, counted)))
