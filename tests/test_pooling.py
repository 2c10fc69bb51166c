"""Pooling against its formulas, and R-MAC's regions against the paper's figure."""

import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax.models import pooling


@pytest.fixture
def maps():
    return np.abs(np.random.default_rng(0).normal(size=(3, 6, 8, 5))).astype("float32")


def test_means_and_the_largest(maps):
    np.testing.assert_allclose(pooling.average(maps), maps.mean((1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(pooling.maximum(maps), maps.max((1, 2)))
    cubes = (maps.astype(float) ** 3).mean((1, 2)) ** (1 / 3)
    np.testing.assert_allclose(pooling.gem(maps), cubes, rtol=1e-5)
    np.testing.assert_allclose(pooling.gem(maps, 1.0), maps.mean((1, 2)), rtol=1e-5)
    far = pooling.gem(maps, 200.0) / maps.max((1, 2))
    np.testing.assert_allclose(far, 1, atol=0.02)


def test_regions_of_a_square_are_one_four_and_nine():
    found = pooling.regions(7, 7, 3)
    assert [side for _, _, side in found] == [7] + [4] * 4 + [3] * 9
    assert found[0] == (0, 0, 7)
    assert found[1:5] == [(0, 0, 4), (0, 3, 4), (3, 0, 4), (3, 3, 4)]


def test_regions_of_an_oblong_are_more_along_its_longer_side():
    found = pooling.regions(6, 9, 2)
    assert len([1 for _, _, side in found if side == 6]) == 2
    assert len([1 for _, _, side in found if side == 4]) == 6
    turned = [(left, top, side) for top, left, side in pooling.regions(9, 6, 2)]
    assert sorted(turned) == sorted(found)
    for top, left, side in found:
        assert top + side <= 6
        assert left + side <= 9


def test_rmac_is_the_sum_of_unit_descriptors(maps):
    total = 0
    for top, left, side in pooling.regions(6, 8, 3):
        one = maps[:, top : top + side, left : left + side].max((1, 2))
        total = total + one / np.linalg.norm(one, axis=1, keepdims=True)
    total /= np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(pooling.rmac(maps), total, rtol=1e-5)


def test_empty_maps_give_zeros():
    nothing = jnp.zeros((2, 4, 4, 3))
    assert not np.asarray(pooling.rmac(nothing)).any()
    assert np.isfinite(np.asarray(pooling.gem(nothing))).all()
