"""Ridge regression from inner products, against fits that are made one by one."""

import numpy as np
import pytest

from unlir_jax.parts import ridge


def examples(count=24, channels=40, classes=3, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    rows = random.normal(size=(count, channels))
    rows[:, :classes] += 1.5 * np.eye(classes)[labels]
    return rows, labels


def products(rows):
    centred = rows - rows.mean(0)
    return centred @ centred.T


def fit_directly(rows, labels, classes, penalty):
    """Solve the normal equations with an intercept that is not penalised."""
    mean, hot = rows.mean(0), np.eye(classes)[labels]
    centred = rows - mean
    inner = centred.T @ centred + penalty * np.eye(rows.shape[1])
    kernel = np.linalg.solve(inner, centred.T @ (hot - hot.mean(0)))
    return kernel, hot.mean(0) - mean @ kernel


def test_the_kernel_solves_the_normal_equations():
    rows, labels = examples()
    size = np.trace(products(rows)) / len(rows)
    kernel, bias = ridge.classifier(rows, labels, 3, penalties=(0.01,))
    found = ridge.solve(products(rows), labels, 3, penalties=(0.01,))
    expected, offset = fit_directly(rows, labels, 3, 0.01 * size * len(rows))
    np.testing.assert_allclose(kernel, found.temperature * expected, atol=1e-5)
    np.testing.assert_allclose(bias, found.temperature * offset, atol=1e-5)


def test_leaving_out_needs_no_new_fit():
    rows, labels = examples()
    size = np.trace(products(rows)) / len(rows)
    best = (np.inf,)
    for penalty in (1e-4, 1e-2, 1.0):
        outputs = []
        for left_out in range(len(rows)):
            kept = np.arange(len(rows)) != left_out
            kernel, bias = fit_directly(
                rows[kept], labels[kept], 3, penalty * size * len(rows)
            )
            outputs.append(rows[left_out] @ kernel + bias)
        outputs = np.stack(outputs)
        for temperature in ridge.TEMPERATURES:
            scaled = np.exp(temperature * outputs)
            chosen = scaled[np.arange(len(rows)), labels] / scaled.sum(1)
            loss = -np.log(chosen).mean()
            right = np.mean(outputs.argmax(1) == labels)
            best = min(best, (loss, penalty, temperature, right))
    found = ridge.solve(products(rows), labels, 3, penalties=(1e-4, 1e-2, 1.0))
    assert (found.penalty, found.temperature) == best[1:3]
    assert found.accuracy == pytest.approx(best[3])


def test_the_order_and_the_scale_of_examples_change_nothing():
    rows, labels = examples()
    order = np.random.default_rng(1).permutation(len(rows))
    first = ridge.solve(products(rows), labels, 3)
    second = ridge.solve(products(7 * rows[order]), labels[order], 3)
    np.testing.assert_allclose(49 * second.dual, first.dual[order], rtol=1e-4)
    assert first.penalty == second.penalty


def test_bad_input_gets_one_sentence():
    rows, labels = examples()
    with pytest.raises(ValueError, match="no example of class 3; expected at least"):
        ridge.solve(products(rows), labels, 4)
    with pytest.raises(ValueError, match="run from 0 to 2; expected 0 to 1"):
        ridge.solve(products(rows), labels, 2)
    with pytest.raises(ValueError, match="expected numbers above 0"):
        ridge.solve(products(rows), labels, 3, penalties=(0.0,))
    with pytest.raises(ValueError, match="expected two or more that differ"):
        ridge.solve(np.zeros((6, 6)), np.arange(6) % 2, 2)
