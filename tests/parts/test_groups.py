"""Parts of groups, on cells that are planted."""

import jax
import numpy as np
import pytest
import tiers

from unlir_jax.parts import groups


@pytest.fixture(scope="module")
def planted():
    """Give pictures of noise, in each of which one cell is its group's own look."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    cells = random.normal(size=(60, 9, 16))
    looks = 8 * np.eye(16)[:3]
    place = random.integers(9, size=60)
    cells[np.arange(60), place] += looks[labels]
    return cells.astype(np.float32), labels, looks / 8


@pytest.mark.exhaustive
@pytest.mark.parametrize("solver", tiers.by_tier([None, "hungarian", "ipfp"], {None}))
def test_each_group_finds_what_tells_it_from_all(planted, solver):
    cells, labels, looks = planted
    found = groups.learn(cells, labels, 6, key=jax.random.key(0), solver=solver)
    assert found.shape == (6, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    best = (found @ looks.T).reshape(3, 2, 3).max(1)
    assert (best.argmax(1) == np.arange(3)).all()
    assert best.max(1).min() > 0.8


def test_pictures_that_are_alike_are_one_group():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 4
    rows = np.eye(8)[labels] + 0.05 * random.normal(size=(40, 8))
    found = groups.alike(rows, 4, key=jax.random.key(0))
    pairs = {(a, b) for a, b in zip(labels.tolist(), found.tolist(), strict=True)}
    assert len(pairs) == 4


def test_fewer_parts_than_groups_are_refused(planted):
    cells, labels, _ = planted
    with pytest.raises(ValueError, match="at least one part for each"):
        groups.learn(cells, labels, 2, key=jax.random.key(0))
