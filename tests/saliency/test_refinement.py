"""Refined maps: the mean field against loops, walks against powers of a matrix."""

import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import saliency
from unlir_jax.saliency.refinement import pixels


def pictures(count=2, rows=4, columns=5):
    return np.random.default_rng(0).uniform(size=(count, rows, columns, 3))


def slow_mean_field(image, before, iterations, settings):
    """Sum over all pairs of pixels, one at a time."""
    appearance, smoothness, near, colour, blur = settings
    rows, columns, labels = before.shape
    places = [(y, x) for y in range(rows) for x in range(columns)]
    count, longer = len(places), max(rows, columns)
    kernels = np.zeros((2, count, count))
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            apart = ((y - v) ** 2 + (x - u) ** 2) / longer**2
            unlike = ((image[y, x] - image[v, u]) ** 2).sum()
            kernels[0, i, j] = np.exp(-apart / 2 / near**2 - unlike / 2 / colour**2)
            kernels[1, i, j] = np.exp(-apart / 2 / blur**2)
    sums = kernels.sum(2)
    now = before.reshape((count, labels))
    unary = np.log(now)
    for _ in range(iterations):
        message = np.zeros_like(now)
        for weight, kernel, total in zip(
            (appearance, smoothness), kernels, sums, strict=True
        ):
            for i in range(count):
                for j in range(count):
                    if i != j:
                        part = kernel[i, j] / np.sqrt(total[i] * total[j])
                        message[i] += weight * part * now[j]
        raised = np.exp(unary + message)
        now = raised / raised.sum(1, keepdims=True)
    return now.reshape(before.shape)


def test_the_mean_field_is_that_of_loops_over_all_pairs(x64):
    images = pictures()
    raw = np.random.default_rng(1).uniform(0.05, 1, size=(2, 4, 5, 3))
    before = raw / raw.sum(-1, keepdims=True)
    settings = 4.0, 2.0, 0.4, 0.3, 0.25
    names = ("appearance", "smoothness", "near", "colour", "blur")
    options = dict(zip(names, settings, strict=True))
    found = saliency.dense_crf(images, before, iterations=3, **options)
    for image, one, own in zip(images, before, found, strict=True):
        expected = slow_mean_field(image, one, 3, settings)
        assert np.abs(expected - one).max() > 0.05
        np.testing.assert_allclose(own, expected, atol=1e-12)
    none = saliency.dense_crf(images, before, iterations=0)
    np.testing.assert_array_equal(none, before)


def test_a_crf_without_weights_keeps_the_probabilities(x64):
    images, before = pictures(), np.full((2, 4, 5, 2), 0.5)
    before[:, 1] = 0.9, 0.1
    found = saliency.dense_crf(images, before, appearance=0, smoothness=0)
    np.testing.assert_allclose(found, before, atol=1e-14)


def slow_transitions(image, radius, colour):
    rows, columns = image.shape[:2]
    places = [(y, x) for y in range(rows) for x in range(columns)]
    table = np.zeros((len(places),) * 2)
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            if np.hypot(y - v, x - u) / max(rows, columns) <= radius + 1e-9:
                unlike = ((image[y, x] - image[v, u]) ** 2).sum()
                table[i, j] = np.exp(-unlike / 2 / colour**2)
    return table / table.sum(1, keepdims=True)


def test_a_walk_is_a_power_of_its_matrix(x64):
    images = pictures()
    maps = np.random.default_rng(2).normal(size=(2, 4, 5))
    found = saliency.random_walk(images, maps, steps=7, radius=0.4, colour=0.3)
    steps = saliency.transitions(jnp.asarray(images), radius=0.4, colour=0.3)
    for image, own, step, one in zip(images, found, steps, maps, strict=True):
        expected = slow_transitions(image, 0.4, 0.3)
        np.testing.assert_allclose(step, expected, atol=1e-12)
        power = np.linalg.matrix_power(expected, 7)
        np.testing.assert_allclose(own, (power @ one.ravel()).reshape(4, 5), atol=1e-12)
    same = saliency.random_walk(images, maps, steps=0)
    np.testing.assert_array_equal(same, maps)
    constant = saliency.random_walk(images, np.full((2, 4, 5), 3.0), steps=50)
    np.testing.assert_allclose(constant, 3.0, atol=1e-12)


def test_a_long_walk_in_a_connected_image_ends_at_the_stationary_mean(x64):
    images = pictures(1, 3, 3)
    maps = np.random.default_rng(3).uniform(size=(1, 3, 3))
    found = saliency.random_walk(images, maps, steps=4000, radius=0.4, colour=1.0)
    step = slow_transitions(images[0], 0.4, 1.0)
    values, vectors = np.linalg.eig(step.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    expected = stationary @ maps[0].ravel() / stationary.sum()
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_images_shrink_by_the_mean_of_what_a_pixel_covers():
    images = pictures(1, 6, 9).astype(np.float32)
    found = pixels.shrunk(images, (2, 3))
    expected = images.reshape(1, 2, 3, 3, 3, 3).mean((2, 4))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Three pixels become two: each is two thirds of one and one third of the middle.
    row = np.asarray([0.0, 3.0, 6.0], np.float32).reshape((1, 1, 3, 1))
    np.testing.assert_allclose(pixels.shrunk(row, (1, 2)).ravel(), [1, 5], atol=1e-6)


def seeded(variables, images, labels, *, key=None):
    """Mark the left of the first image, nothing of the second, and NaN of the third."""
    left = jnp.zeros((3, 4, 4)).at[0, :, 0].set(1.0)
    return left.at[2].set(jnp.nan)


@pytest.mark.parametrize("name", list(saliency.REFINEMENTS))
def test_seeds_fill_their_half_of_an_image_with_two_colours(name):
    images = np.zeros((3, 32, 32, 3), np.float32)
    images[:, :, 16:] = 1
    refine = saliency.REFINEMENTS[name]
    found = np.asarray(refine(seeded, side=16)({}, images, np.zeros(3, int)))
    assert found.shape == (3, 16, 16)
    assert found[0, :, :8].min() > found[0, :, 8:].max() + 0.1
    assert (found[1] == 0).all()
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"near": 0.0}, "`near`=0.0; expected a distance above 0."),
        ({"appearance": -1.0}, "`appearance`=-1.0; expected a weight of 0 or more."),
        ({"iterations": -1}, "`iterations`=-1; expected 0 or more."),
    ],
)
def test_settings_of_a_crf_without_sense_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        saliency.dense_crf(pictures(), np.full((2, 4, 5, 2), 0.5), **settings)


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="not larger than the images"):
        saliency.random_walk(pictures(), np.zeros((2, 9, 9), np.float32))
    with pytest.raises(ValueError, match="as the images have"):
        saliency.dense_crf(pictures(), np.full((2, 9, 9, 2), 0.5))
    with pytest.raises(ValueError, match="two labels or more"):
        saliency.dense_crf(pictures(), np.full((2, 4, 5, 1), 0.5))
    with pytest.raises(ValueError, match="pairs are too many"):
        saliency.transitions(np.zeros((1, 200, 200, 3), np.float32))
    with pytest.raises(ValueError, match="`side`=1; expected 2 to 128 pixels"):
        saliency.refine_by_walk(seeded, side=1)
