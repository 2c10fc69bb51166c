import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax.parts import clustering


def mixed(count=600, channels=6, seed=0):
    """Draw correlated regions with a mean."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(channels, channels))
    return (random.normal(size=(count, channels)) @ mixing + 3).astype(np.float32)


def blobs(count=5, each=40, channels=8, seed=0):
    """Draw tight clusters around centres 20 apart or more."""
    random = np.random.default_rng(seed)
    centres = 20 * np.eye(channels)[:count]
    regions = np.repeat(centres, each, 0) + 0.1 * random.normal(
        size=(count * each, channels)
    )
    return regions.astype(np.float32), np.repeat(np.arange(count), each)


def test_whitened_regions_have_the_identity_as_covariance():
    regions = mixed()
    fitted = clustering.whitening(regions, 6, epsilon=0.0)
    found = np.asarray(clustering.whiten(regions, fitted, normalize=False))
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.T @ found / len(found), np.eye(6), atol=1e-3)
    assert abs(fitted.explained - 1) < 1e-6
    half = clustering.whitening(regions, 3)
    values = np.linalg.eigvalsh(np.cov(regions.T, bias=True))[::-1]
    np.testing.assert_allclose(half.variance, values[:3], rtol=1e-4)
    np.testing.assert_allclose(half.explained, values[:3].sum() / values.sum(), 1e-5)


def test_few_regions_give_the_covariances_own_directions():
    # Ten regions of 40 channels go through the Gram matrix; copies of them do not.
    few = mixed(10, 40)
    gram = clustering.whitening(few, 5)
    full = clustering.whitening(np.repeat(few, 5, 0), 5)
    np.testing.assert_allclose(gram.variance, full.variance, rtol=1e-4)
    np.testing.assert_allclose(gram.matrix, full.matrix, rtol=1e-2, atol=1e-4)
    assert clustering.whitening(few, 30).matrix.shape == (40, 9)
    assert clustering.whitening(np.concatenate([few, few]), 30).matrix.shape[1] == 9


def test_half_precision_maps_are_accumulated_in_full():
    # A float16 sum of these would overflow; float32 chunks agree with float64.
    regions = np.full((20000, 3), 60.0, np.float16)
    regions += np.random.default_rng(0).normal(size=regions.shape).astype(np.float16)
    fitted = clustering.whitening(regions, 3)
    wide = regions.astype(np.float64)
    np.testing.assert_allclose(fitted.mean, wide.mean(0), rtol=1e-6)
    expected = np.linalg.eigvalsh(np.cov(wide.T, bias=True))[::-1]
    np.testing.assert_allclose(fitted.variance, expected, rtol=1e-4)


def test_unit_length_and_nothing_for_nothing():
    found = clustering.unit(np.asarray([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], atol=1e-7)
    gradient = jax.grad(lambda x: clustering.unit(x).sum())(jnp.zeros((1, 2)))
    assert (gradient == 0).all()


@pytest.mark.exhaustive
def test_kmeans_finds_separate_clusters():
    regions, truth = blobs()
    found = clustering.kmeans(regions, 5, key=jax.random.key(0))
    names = {(int(a), int(b)) for a, b in zip(truth, found.labels, strict=True)}
    assert len(names) == 5
    for name in range(5):
        own = np.asarray(found.labels) == name
        np.testing.assert_allclose(found.centres[name], regions[own].mean(0), atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("spherical", [False, True])
def test_inertia_never_rises_and_is_what_it_says(spherical):
    regions = mixed(900, 5)
    found = clustering.kmeans(
        regions, 30, key=jax.random.key(1), steps=12, spherical=spherical
    )
    inertia = np.asarray(found.inertia)
    assert inertia.shape == (13,) and inertia[-1] < 0.99 * inertia[0]
    assert (np.diff(inertia) <= 1e-5 * inertia[0]).all()
    if spherical:
        regions = regions / np.linalg.norm(regions, axis=1, keepdims=True)
        np.testing.assert_allclose(np.linalg.norm(found.centres, axis=1), 1, 1e-5)
    apart = np.linalg.norm(regions[:, None] - np.asarray(found.centres), axis=2)
    np.testing.assert_array_equal(found.labels, apart.argmin(1))
    np.testing.assert_allclose(inertia[-1], np.sum(apart.min(1) ** 2), rtol=1e-3)


@pytest.mark.exhaustive
def test_chunks_change_nothing(monkeypatch):
    regions = mixed(1000, 5)
    key = jax.random.key(0)
    whole = clustering.kmeans(regions, 7, key=key, steps=5)
    monkeypatch.setattr(clustering, "CHUNK", 96)
    clustering._lloyd.clear_cache()
    chunked = clustering.kmeans(regions, 7, key=key, steps=5)
    clustering._lloyd.clear_cache()
    np.testing.assert_array_equal(chunked.labels, whole.labels)
    np.testing.assert_allclose(chunked.centres, whole.centres, atol=1e-4)


def test_an_empty_cluster_starts_again_at_the_farthest_region():
    regions = jnp.asarray([[0.0, 0], [0.1, 0], [0, 0.1], [9.0, 0], [0, 7.0]])
    centres = jnp.asarray([[0.0, 0], [-50.0, -50], [-60.0, -60]])
    found = clustering._lloyd(regions, centres, 1, False)
    np.testing.assert_allclose(found.centres[1], [9, 0])
    np.testing.assert_allclose(found.centres[2], [0, 7])
    assert found.inertia[1] < found.inertia[0]


@pytest.mark.exhaustive
def test_the_best_of_restarts_is_given():
    regions, _ = blobs(8, 10)
    keys = jax.random.split(jax.random.key(3), 4)
    alone = [
        clustering._lloyd(
            jnp.asarray(regions), clustering._seeds(regions, 8, one), 3, False
        )
        for one in keys
    ]
    best = clustering.kmeans(regions, 8, key=jax.random.key(3), steps=3, restarts=4)
    np.testing.assert_allclose(
        best.inertia[-1], min(run.inertia[-1] for run in alone), rtol=1e-6
    )


@pytest.mark.exhaustive
def test_equal_regions_and_opposite_directions_stay_finite():
    same = np.ones((10, 3), np.float32)
    found = clustering.kmeans(same, 4, key=jax.random.key(0), steps=3)
    assert np.isfinite(found.centres).all() and found.inertia[-1] == 0
    opposite = np.asarray([[1.0, 0], [-1.0, 0]], np.float32)
    found = clustering.kmeans(
        opposite, 1, key=jax.random.key(0), steps=3, spherical=True
    )
    np.testing.assert_allclose(np.linalg.norm(found.centres, axis=1), 1)


def test_bad_input_gets_one_sentence():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="`count`=11 clusters of 10 regions"):
        clustering.kmeans(mixed(10), 11, key=key)
    with pytest.raises(ValueError, match="`restarts`=0"):
        clustering.kmeans(mixed(10), 2, key=key, restarts=0)
    broken = mixed(10)
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="`regions` has 1 values that are not finite"):
        clustering.kmeans(broken, 2, key=key)
    with pytest.raises(ValueError, match="not finite"):
        clustering.whitening(broken)
    with pytest.raises(ValueError, match="10 equal rows"):
        clustering.whitening(np.full((10, 3), 0.1, np.float32))
    with pytest.raises(ValueError, match="at least 2 regions"):
        clustering.whitening(mixed(1))
