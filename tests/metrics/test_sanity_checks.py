"""Similarity of maps against published code, and what randomisation randomises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax.metrics.sanity import hog, randomization, similarity
from unlir_jax.metrics.sanity import redrawn as sanity

KEY = jax.random.key(0)


def blobs(seed):
    """Smooth noise, `[2, 64, 80]`, as it was given to the reference code."""
    values = np.random.default_rng(seed).uniform(size=(2, 64, 80))
    for axis in (1, 2):
        for _ in range(3):
            values = np.roll(values, 1, axis) + values + np.roll(values, -1, axis)
            values /= 3
    return values


FIRST = blobs(0)
SECOND = np.round(0.6 * blobs(0) + 0.4 * blobs(1), 2)  # With many ties.


@pytest.mark.exhaustive
def test_similarities_are_those_of_published_code():
    """Computed by scikit-image 0.26 and SciPy 1.18.

    Of both maps range-normalised: `structural_similarity(gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False, data_range=1)`, `spearmanr`, and the
    correlation of `hog(pixels_per_cell=(16, 16))`.
    """
    found = similarity.similarities(FIRST.astype("f4"), SECOND.astype("f4"))
    expected = {
        "ssim": [0.7640357432018273, 0.7664763635206808],
        "spearman": [0.7939260715446047, 0.7698845375623901],
        "hog": [0.555817263143382, 0.4369991095003607],
    }
    for name, values in expected.items():
        # One pixel at the edge of an orientation's bin moves the histograms a little.
        np.testing.assert_allclose(found[name], values, atol=1e-3, err_msg=name)
    assert not found["flat"].any()
    for name, alone in (
        ("ssim", similarity.ssim),
        ("spearman", similarity.spearman),
    ):
        values = alone(FIRST.astype("f4"), SECOND.astype("f4"))
        np.testing.assert_allclose(values, found[name], atol=1e-6)


@pytest.mark.exhaustive
def test_the_same_in_double_precision(x64):
    found = similarity.similarities(FIRST, SECOND)
    expected = {
        "ssim": [0.7640357432018273, 0.7664763635206808],
        "spearman": [0.7939260715446047, 0.7698845375623901],
        "hog": [0.555817263143382, 0.4369991095003607],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=name)


@pytest.mark.exhaustive
def test_identities():
    maps = FIRST.astype(np.float32)
    same = similarity.similarities(maps, 3 * maps + 1)
    for name in ("ssim", "spearman", "hog"):
        np.testing.assert_allclose(same[name], 1, atol=1e-4)
    opposite = similarity.similarities(maps, -maps)
    np.testing.assert_allclose(opposite["spearman"], -1, atol=1e-5)
    signed = similarity.similarities(maps - 0.5, 0.5 - maps, absolute=True)
    np.testing.assert_allclose(signed["spearman"], 1, atol=1e-5)
    monotone = similarity.spearman(maps, np.exp(9 * maps))
    np.testing.assert_allclose(monotone, 1, atol=1e-5)


def test_ranks_of_ties_are_in_the_middle():
    ranks = similarity._ranks(jnp.asarray([[[3.0, 1.0], [3.0, 7.0]]]))
    assert ranks.tolist() == [[2.5, 1, 2.5, 4]]


def test_maps_that_cannot_be_compared_are_refused(unchecked):
    with pytest.raises(ValueError, match="for both"):
        similarity.spearman(FIRST, SECOND[:1])
    with pytest.raises(ValueError, match="48 pixels"):
        similarity.similarities(FIRST[:, :32], SECOND[:, :32])
    with pytest.raises(ValueError, match="11 pixels"):
        similarity.ssim(FIRST[:, :8], SECOND[:, :8])
    with pytest.raises(ValueError, match="48 pixels"):
        hog.descriptors(FIRST[:, :32])


ORDER = ("stem", "block", "block/conv1", "head")


def network():
    """Give variables as Linen has them, with a batch norm and its statistics."""
    random = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32) + 5

    return {
        "params": {
            "block": {
                "conv1": {"kernel": draw(3, 3, 50, 40), "bias": draw(40)},
                "norm": {"scale": draw(40), "bias": draw(40)},
            },
            "head": {"kernel": draw(40, 5), "bias": draw(5)},
            "stem": {"kernel": draw(3, 3, 3, 50)},
        },
        "batch_stats": {"block": {"norm": {"mean": draw(40), "var": draw(40)}}},
    }


def changed(first, second):
    """Name the leaves that differ."""
    one, other = (
        {jax.tree_util.keystr(p, simple=True, separator="/"): v for p, v in leaves}
        for leaves in (
            jax.tree_util.tree_flatten_with_path(v)[0] for v in (first, second)
        )
    )
    return {path for path in one if not np.array_equal(one[path], other[path])}


HEAD = {"params/head/kernel", "params/head/bias"}
CONV = {"params/block/conv1/kernel", "params/block/conv1/bias"}
NORM = {
    "params/block/norm/scale",
    "params/block/norm/bias",
    "batch_stats/block/norm/mean",
    "batch_stats/block/norm/var",
}
STEM = {"params/stem/kernel"}


def test_layers_are_redrawn_from_the_head_backwards():
    variables, layers, expected = network(), (HEAD, CONV, NORM, STEM), set()
    fresh = sanity.redraw(variables, KEY)
    together = list(randomization._versions(ORDER, 4, True)(variables, fresh))
    for version, layer in zip(together, layers, strict=True):
        expected |= layer
        assert changed(variables, version) == expected
    assert not changed(together[-1], fresh)
    alone = randomization._versions(ORDER, 4, False)(variables, fresh)
    for version, layer in zip(alone, layers, strict=True):
        assert changed(variables, version) == layer


def test_flat_variables_have_layers_too():
    variables = {
        "conv_kernel": jnp.ones((3, 3, 3, 4)),
        "dense_kernel": jnp.ones((4, 2)),
    }
    found = sanity.layers(variables, ("conv_kernel", "dense_kernel"))
    assert found == {
        "conv_kernel": ("conv_kernel",),
        "dense_kernel": ("dense_kernel",),
    }


def test_what_is_not_covered_is_named():
    variables = network()
    with pytest.raises(ValueError, match="params/head/bias"):
        sanity.layers(variables, ("stem", "block"))


def test_fresh_variables_are_those_of_a_network_at_its_start():
    variables = network()
    fresh = sanity.redraw(variables, KEY)
    for path, deviation in (
        (("block", "conv1"), (2 / 450) ** 0.5),
        (("stem",), (2 / 27) ** 0.5),
        (("head",), (2 / 40) ** 0.5),
    ):
        leaf = fresh["params"]
        for name in path:
            leaf = leaf[name]
        count = leaf["kernel"].size
        # Five standard errors of the deviation and of the mean.
        assert abs(leaf["kernel"].std() / deviation - 1) < 5 / (2 * count) ** 0.5
        assert abs(leaf["kernel"].mean()) < 5 * deviation / count**0.5
    norm = fresh["params"]["block"]["norm"], fresh["batch_stats"]["block"]["norm"]
    for leaf, value in (
        *((norm[0]["scale"], 1), (norm[0]["bias"], 0)),
        *((norm[1]["var"], 1), (norm[1]["mean"], 0)),
    ):
        assert (leaf == value).all()
    again, other = (sanity.redraw(variables, k) for k in (KEY, jax.random.key(1)))
    assert not changed(fresh, again)
    assert changed(fresh, other) == {
        path for path in HEAD | CONV | STEM if "kern" in path
    }
