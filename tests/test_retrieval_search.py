"""Exact search against sorting, on one and on four devices."""

import jax
import numpy as np
import pytest

from unlir_jax.retrieval import search
from unlir_jax.runtime import mesh


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("asked", [3, 300])
def test_it_is_sorting(devices, asked):
    random = np.random.default_rng(0)
    queries = random.normal(size=(asked, 8)).astype("float32")
    index = random.normal(size=(101, 8)).astype("float32")
    laid = mesh.layout(devices=jax.devices()[:devices])
    found = search.search(queries, 7 * index, 5, laid=laid)
    unit = index / np.linalg.norm(index, axis=1, keepdims=True)
    cosines = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ unit.T
    np.testing.assert_array_equal(found.places, np.argsort(-cosines, 1)[:, :5])
    np.testing.assert_allclose(found.scores, -np.sort(-cosines, 1)[:, :5], atol=1e-6)


def test_rows_that_fill_up_are_never_found():
    found = search.search(-np.ones((1, 2)), np.ones((5, 2)), 5)
    assert sorted(found.places[0]) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found.scores, -1, atol=1e-6)


def test_bad_input_gets_one_sentence(unchecked):
    with pytest.raises(ValueError, match="expected 1 to 3"):
        search.search(np.ones((1, 2)), np.ones((3, 2)), 4)
    with pytest.raises(ValueError, match="expected \\[queries, channels\\]"):
        search.search(np.ones((1, 2)), np.ones((3, 3)), 1)
