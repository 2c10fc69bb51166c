"""SaCo against a slow loop, and on maps whose value is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import metrics, split

WEIGHTS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
LABELS = jnp.asarray([0, 1, 0])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).random((3, 6, 5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def linear():
    """Cut a network whose logits are a weighted sum of pixels, and its negative."""

    def head(variables, maps):
        found = jnp.einsum("bhwc,hw->b", maps, WEIGHTS)
        return jnp.stack([found, -found], axis=1)

    return split.from_functions(lambda variables, images: images, head)


def slow(images, saliency, label, groups):
    """Follow Algorithm 1 for one image and the logit of the linear network."""
    sign = 1 - 2 * label
    pixels = saliency.size
    order = np.argsort(-saliency.ravel(), kind="stable")
    number = np.empty(pixels, int)
    number[order] = np.arange(pixels) * groups // pixels
    number = number.reshape(saliency.shape)
    clean = sign * np.einsum("hwc,hw->", images, WEIGHTS)
    sums, falls = [], []
    for group in range(groups):
        shown = np.where((number == group)[..., None], images.mean((0, 1)), images)
        falls.append(clean - sign * np.einsum("hwc,hw->", shown, WEIGHTS))
        sums.append(saliency[number == group].sum())
    agreed = total = 0
    for i in range(groups - 1):
        for j in range(i + 1, groups):
            weight = sums[i] - sums[j]
            agreed += weight if falls[i] >= falls[j] else -weight
            total += abs(weight)
    return agreed / total


@pytest.mark.parametrize("groups", [2, 7])
def test_saco_is_that_of_a_slow_loop(linear, images, groups):
    saliency = np.random.default_rng(2).normal(size=(3, 6, 5)).astype(np.float32)
    measure = metrics.saco(linear, regions=groups, score="logit")
    found = measure({}, images, LABELS, saliency)["saco"]
    rows = zip(images, saliency, np.asarray(LABELS), strict=True)
    expected = [slow(*row, groups) for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(set(np.round(expected, 4))) > 1


def test_exact_effects_give_one_and_their_negative_minus_one(linear, images):
    deviation = images - images.mean((1, 2), keepdims=True)
    exact = np.einsum("bhwc,hw->bhw", deviation, WEIGHTS)
    exact[1] *= -1
    measure = metrics.saco(linear, regions=5, score="logit")
    np.testing.assert_allclose(measure({}, images, LABELS, exact)["saco"], 1)
    np.testing.assert_allclose(measure({}, images, LABELS, -exact)["saco"], -1)
    flat = np.ones_like(exact)
    np.testing.assert_array_equal(measure({}, images, LABELS, flat)["saco"], 0)


def test_impossible_numbers_of_groups_are_refused(linear, images):
    with pytest.raises(ValueError, match="`regions`=1; expected 2 or more"):
        metrics.saco(linear, regions=1)
    with pytest.raises(ValueError, match="the image has 30 pixels"):
        metrics.saco(linear, regions=31)({}, images, LABELS, images[..., 0])
