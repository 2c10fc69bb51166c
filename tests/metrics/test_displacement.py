"""Displacement of maps, against SciPy, sets of pixels and centres of two points."""

import helpers
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from unlir_jax.metrics.sanity.displacement import displacement


def pair(seed=0, shape=(3, 7, 9)):
    random = np.random.default_rng(seed)
    first = random.normal(0, 1, shape).astype(np.float32)
    return first, first + random.normal(0, 1, shape).astype(np.float32)


def test_ranks_are_those_of_scipy():
    first, second = pair()
    found = displacement(first, second)["spearman"]
    expected = [
        stats.spearmanr(one.ravel(), two.ravel()).statistic
        for one, two in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.35])
def test_the_highest_pixels_are_compared_as_sets(share):
    first, second = pair(1)
    found = displacement(first, second, share=share)["top_iou"]
    count = round(share * 63)
    for one, two, value in zip(first, second, np.asarray(found), strict=True):
        ours, theirs = (
            set(np.argsort(-each.ravel(), kind="stable")[:count].tolist())
            for each in (one, two)
        )
        np.testing.assert_allclose(value, len(ours & theirs) / len(ours | theirs))


def test_centres_are_weighted_means():
    first, second = pair(2)
    found = displacement(first, second, signs="abs")["centre_distance"]
    rows, columns = np.mgrid[:7, :9]
    for one, two, value in zip(first, second, np.asarray(found), strict=True):
        centres = []
        for each in (np.abs(one), np.abs(two)):
            mass = (each - each.min()) / (each - each.min()).sum()
            centres.append([np.sum(mass * rows), np.sum(mass * columns)])
        distance = np.linalg.norm(np.subtract(*centres)) / np.sqrt(7**2 + 9**2)
        np.testing.assert_allclose(value, distance, atol=1e-5)


def test_a_flat_map_is_as_far_as_can_be():
    first, _ = pair(3, (2, 4, 4))
    second = np.stack([np.zeros((4, 4)), first[1]]).astype(np.float32)
    found = displacement(first, second)
    assert found["flat"].tolist() == [True, False]
    np.testing.assert_allclose(found["spearman"], [0, 1], atol=1e-6)
    np.testing.assert_allclose(found["top_iou"], [0, 1])
    np.testing.assert_allclose(found["centre_distance"], [1, 0], atol=1e-6)
    # Negative values have no mass.
    negative = displacement(-jnp.abs(first) - 1, first)
    assert negative["flat"].all()


def test_a_share_of_nothing_is_refused():
    first, second = pair()
    helpers.refused("`share`=0.0; expected", displacement, first, second, share=0.0)
