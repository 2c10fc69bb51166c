"""Tuned logistic regression, against its own conditions of optimality."""

import numpy as np
import pytest

from unlir_jax.parts import logistic


def examples(count=90, channels=6, classes=3, noise=1.0):
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    rows = random.normal(size=(count, channels)) * noise
    rows[:, :classes] += 2 * np.eye(classes)[labels]
    return rows.astype(np.float32), labels


@pytest.mark.exhaustive
def test_the_gradient_vanishes_at_the_fit():
    rows, labels = examples()
    found = logistic.tune(rows, labels, 3, penalties=(0.1,))
    known = (rows - found.mean) / found.scale
    logits = logistic.logits(found, rows)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    residual = (chances - np.eye(3)[labels]) / len(rows)
    np.testing.assert_allclose(known.T @ residual + 0.1 * found.kernel, 0, atol=2e-5)
    np.testing.assert_allclose(residual.sum(0), 0, atol=2e-5)


@pytest.mark.exhaustive
def test_the_penalty_is_the_one_that_is_best_on_what_was_left_out():
    rows, labels = examples(noise=3.0)
    grid = (10.0, 0.1, 1e-4)
    each = [logistic.tune(rows, labels, 3, penalties=(p,)).accuracy for p in grid]
    found = logistic.tune(rows, labels, 3, penalties=grid)
    assert found.accuracy >= max(each) - 1 / len(rows)
    assert found.penalty in grid


def test_folds_share_out_every_class():
    labels = np.repeat(np.arange(4), 9)
    fold = logistic.folds(labels, 3)
    for label in range(4):
        assert (np.bincount(fold[labels == label]) == 3).all()
    assert not (fold == logistic.folds(labels, 3, seed=1)).all()


def test_equal_rows_are_refused():
    with pytest.raises(ValueError, match="equal rows; expected some that differ"):
        logistic.tune(np.ones((6, 2)), np.arange(6) % 2, 2)
