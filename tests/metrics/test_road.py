"""Imputation against a dense solver, and ROAD against a slow loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import metrics, split
from unlir_jax.metrics.faithfulness import imputation

KEY = jax.random.key(0)
LABELS = jnp.zeros(4, int)


def solve(image, missing):
    """Write one equation for each missing pixel, as Rong et al. define them."""
    rows, columns = missing.shape
    places = {
        place: i for i, place in enumerate(zip(*np.nonzero(missing), strict=True))
    }
    matrix = np.zeros((len(places), len(places)))
    right = np.zeros((len(places), image.shape[-1]))
    for (y, x), i in places.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                there = (y + dy, x + dx)
                inside = 0 <= there[0] < rows and 0 <= there[1] < columns
                if (dy, dx) == (0, 0) or not inside:
                    continue
                weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
                matrix[i, i] += weight
                if missing[there]:
                    matrix[i, places[there]] -= weight
                else:
                    right[i] += weight * image[there]
    filled = np.asarray(image, np.float64).copy()
    filled[missing] = np.linalg.solve(matrix, right)
    return filled


def masks(kind, size):
    random = np.random.default_rng(0)
    if kind == "scattered":
        return random.uniform(size=(2, *size)) < 0.6
    mask = np.ones((2, *size), bool)
    mask[0, size[0] // 2, 3] = mask[1, :, -1] = mask[1, 0, 0] = False
    return mask


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "kind", tiers.by_tier(["scattered", "nearly all"], {"scattered"})
)
@pytest.mark.parametrize("size", [(19, 26), (1, 9)])
def test_imputation_is_that_of_a_dense_solver(kind, size):
    random = np.random.default_rng(1)
    images = random.uniform(size=(2, *size, 3)).astype(np.float32)
    missing = masks(kind, size)
    found = imputation.impute(images, missing)
    for image, mask, result in zip(images, missing, found, strict=True):
        np.testing.assert_allclose(result, solve(image, mask), atol=5e-4)
        np.testing.assert_array_equal(result[~mask], image[~mask])


@pytest.mark.exhaustive
def test_the_solver_converges_in_double_precision(x64):
    images = np.random.default_rng(1).uniform(size=(2, 40, 33, 3))
    missing = masks("nearly all", (40, 33))
    found = imputation.impute(images, missing, iterations=40)
    for image, mask, result in zip(images, missing, found, strict=True):
        np.testing.assert_allclose(result, solve(image, mask), atol=1e-9)


@pytest.mark.exhaustive
def test_what_is_missing_is_not_read():
    images = np.random.default_rng(1).uniform(size=(2, 9, 9, 3)).astype(np.float32)
    missing = masks("scattered", (9, 9))
    hidden = np.where(missing[..., None], np.nan, images)
    np.testing.assert_array_equal(
        imputation.impute(hidden, missing), imputation.impute(images, missing)
    )
    whole = imputation.impute(images, np.zeros_like(missing))
    np.testing.assert_array_equal(whole, images)


@pytest.fixture(scope="module")
def brightness():
    """Give label 0 a logit that is a sum over pixels, in closed form."""
    weights = np.random.default_rng(2).normal(size=(32, 32, 3)).astype(np.float32) / 9

    def head(v, maps):
        logit = jnp.sum(maps * weights[None], (1, 2, 3))
        return jnp.stack([logit, jnp.zeros_like(logit)], axis=-1)

    return split.from_functions(lambda v, images: images, head), weights


@pytest.mark.exhaustive
@pytest.mark.parametrize("loop", tiers.by_tier(["host", "device"], {"device"}))
def test_road_is_that_of_a_slow_loop(pictures, brightness, loop):
    model, weights = brightness
    # Few levels, so that ties are the rule.
    saliency = np.random.default_rng(0).integers(0, 5, size=(2, 32, 32))
    saliency = saliency.astype(np.float32)
    percentiles = (25, 60)
    metric = metrics.road(model, percentiles=percentiles, noise=0.0, loop=loop)
    found = metric({}, pictures[:2], LABELS[:2], saliency)
    for name, sign in (("road_most", 1), ("road_least", -1)):
        for index in range(2):
            values = sign * saliency[index].ravel()
            order = sorted(range(values.size), key=lambda i: (-values[i], i))
            for column, share in enumerate(percentiles):
                missing = np.zeros(values.size, bool)
                missing[order[: round(share / 100 * values.size)]] = True
                shown = solve(pictures[index], missing.reshape(32, 32))
                expected = 1 / (1 + np.exp(-np.sum(shown * weights)))
                curve = found[f"{name}_curve"][index, column]
                np.testing.assert_allclose(curve, expected, atol=5e-4)
        np.testing.assert_allclose(found[name], found[f"{name}_curve"].mean(1))
    half = (found["road_least"] - found["road_most"]) / 2
    np.testing.assert_array_equal(found["road"], half)


@pytest.mark.exhaustive
def test_noise_is_drawn_from_the_key_and_small(pictures, brightness):
    model, _ = brightness
    saliency = np.random.default_rng(0).normal(size=(4, 7, 7)).astype(np.float32)
    inputs = ({}, pictures, LABELS, saliency)
    noisy = metrics.road(model, percentiles=(50,))
    one, again = noisy(*inputs, key=KEY)["road"], noisy(*inputs, key=KEY)["road"]
    other = noisy(*inputs, key=jax.random.key(1))["road"]
    without = metrics.road(model, percentiles=(50,), noise=0.0)(*inputs)["road"]
    np.testing.assert_array_equal(one, again)
    assert (one != other).any() and (one != without).all()
    np.testing.assert_allclose(one, without, atol=0.05)
    with pytest.raises(ValueError, match="key"):
        noisy(*inputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"percentiles": ()}, "between 0 and 100"),
        ({"percentiles": (50, 100)}, "between 0 and 100"),
        ({"noise": -1.0}, "0 or more"),
        ({"score": "odds"}, "'softmax', 'sigmoid', 'logit'"),
    ],
)
def test_wrong_settings_are_refused(unchecked, brightness, settings, message):
    with pytest.raises(ValueError, match=message):
        metrics.road(brightness[0], **settings)
