import numpy as np
import pytest

from unlir_jax.parts import clustering, discovery


def nuisance_rows(seed=0, classes=6, each=10, channels=12):
    """Draw classes along small directions, under a large one that says nothing."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    rows = 3 * np.eye(channels)[:classes][labels]
    rows = rows + 0.3 * random.normal(size=rows.shape)
    rows[:, -1] += 2 * random.normal(size=len(rows))
    return rows.astype(np.float32), labels


def test_neighbour_whitening_is_the_formula():
    rows, _ = nuisance_rows()
    fitted = discovery.neighbour_whitening(
        rows, 4, neighbours=3, shrinkage=0.2, rounds=1
    )
    centred = rows - rows.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T - 9 * np.eye(60)
    near = np.argsort(-cosine, 1)[:, :3]
    apart = (rows[:, None] - rows[near]).reshape((-1, 12))
    within = apart.T @ apart / len(apart) / 2
    within = 0.8 * within + 0.2 * np.trace(within) / 12 * np.eye(12)
    # Generalised eigenvectors: T v = variance C v, with v' C v = 1.
    total = centred.T @ centred / 60
    matrix = fitted.matrix
    np.testing.assert_allclose(matrix.T @ within @ matrix, np.eye(4), atol=1e-3)
    np.testing.assert_allclose(
        matrix.T @ total @ matrix, np.diag(fitted.variance), atol=2e-2
    )
    values = np.linalg.eigvals(np.linalg.solve(within, total)).real
    np.testing.assert_allclose(fitted.variance, np.sort(values)[::-1][:4], rtol=1e-3)


def test_neighbour_whitening_removes_what_neighbours_differ_in():
    rows, _ = nuisance_rows()
    fitted = discovery.neighbour_whitening(rows, 5, neighbours=4)
    share = np.abs(fitted.matrix[-1]) / np.linalg.norm(fitted.matrix, axis=0)
    first = clustering.whitening(rows, 5).matrix
    before = np.abs(first[-1]) / np.linalg.norm(first, axis=0)
    assert before.max() > 0.9 and share.max() < 0.3


def test_bad_input_gets_one_sentence(unchecked):
    rows, _ = nuisance_rows()
    with pytest.raises(ValueError, match="`neighbours`=60"):
        discovery.neighbour_whitening(rows, 4, neighbours=60)
