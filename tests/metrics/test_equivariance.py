"""Augmentations of images and maps, and the metric that compares both."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from unlir_jax import metrics, split
from unlir_jax.metrics.sanity import augmentations

KEY = jax.random.key(0)
NAMES = [name for name in augmentations.AUGMENTATIONS if name != "none"]


@pytest.fixture(scope="module")
def images():
    coarse = np.random.default_rng(0).random((2, 8, 8, 3))
    return scipy.ndimage.zoom(coarse, (1, 3, 3, 1), order=1).astype(np.float32)


def model():
    return split.from_functions(
        lambda variables, images: images, lambda variables, maps: maps.mean((1, 2))
    )


def luminous(variables, images, labels, *, key=None):
    """Explain by the image itself, which changes as the image does."""
    return jnp.mean(images, axis=-1)


def fixed(variables, images, labels, *, key=None):
    """Explain without looking: brighter to the right."""
    rows = jnp.arange(images.shape[2], dtype=jnp.float32)
    return jnp.broadcast_to(rows[None, None], images.shape[:3])


def measured(explain, images, name, **more):
    labels = jnp.zeros(len(images), int)
    score = metrics.equivariance(model(), explain, augmentation=name, **more)
    saliency = explain({}, jnp.asarray(images), labels)
    given = {}, jnp.asarray(images), labels, saliency
    return np.asarray(score(*given, key=KEY)["equivariance"])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_belongs_to_the_image(images, name):
    whole = augmentations.augment(name, images, KEY)
    alone = augmentations.augment(name, images[1:], KEY)
    np.testing.assert_allclose(whole[1:], alone, atol=1e-6)
    assert whole.shape == images.shape
    assert 0 <= whole.min() and whole.max() <= 1
    assert np.abs(np.asarray(whole) - images).max() > 0.05


def test_a_flip_is_a_flip(images):
    found = augmentations.augment("flip", images, KEY)
    np.testing.assert_allclose(found, images[:, :, ::-1], atol=1e-5)


@pytest.mark.parametrize("degrees", [45, 135, 225, 315])
def test_rotations_are_those_of_scipy(images, degrees):
    name = "rotation" if degrees == 45 else f"rotation_{degrees}"
    found = np.asarray(augmentations.augment(name, images, KEY))
    expected = scipy.ndimage.rotate(
        images, degrees, axes=(1, 2), reshape=False, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_crop_is_a_part_of_the_image(images):
    ramp = np.linspace(0, 1, 24, dtype=np.float32)
    planes = np.broadcast_to(ramp[None, :, None], (2, 24, 24))
    keys = augmentations.keys(images, KEY)
    moved = np.asarray(augmentations.move("crop", planes, keys))
    inner = moved[:, 1:-1]
    # A part of a ramp is a flatter ramp, with no more than its values.
    slopes = np.diff(inner, axis=1)
    assert (slopes >= -1e-6).all() and (slopes.max((1, 2)) < ramp[1] * 1.001).all()
    np.testing.assert_allclose(slopes, slopes[:, 5:6, 5:6] + 0 * slopes, atol=2e-3)
    assert not np.allclose(moved[0], moved[1])


def test_colours_blur_and_noise_are_those_of_the_corruptions(images):
    found = np.asarray(augmentations.augment("brightness", images, KEY))
    for pixel, before in zip(found.reshape(-1, 3), images.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*map(float, before))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1))
        np.testing.assert_allclose(pixel, expected, atol=1e-5)
    black = augmentations.augment("brightness", np.zeros_like(images), KEY)
    np.testing.assert_allclose(black, 0.3, atol=1e-6)
    blurred = scipy.ndimage.gaussian_filter(images, (0, 3, 3, 0), mode="nearest")
    np.testing.assert_allclose(
        augmentations.augment("blur", images, KEY), blurred, atol=1e-5
    )
    mean = images.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(
        augmentations.augment("contrast", images, KEY),
        mean + 0.2 * (images - mean),
        atol=1e-5,
    )
    grey = np.full((1, 64, 64, 3), 0.5, np.float32)
    noise = np.asarray(augmentations.augment("noise", grey, KEY)) - 0.5
    assert noise.std() == pytest.approx(0.18, rel=0.03)


@pytest.mark.parametrize("name", ["flip", "rotation", "rotation_225", "crop"])
def test_a_map_that_moves_with_the_image_agrees(images, name):
    assert measured(luminous, images, name).min() > 0.97
    assert measured(luminous, images, name, measure="ssim").min() > 0.9


def test_a_map_that_stays_agrees_with_colours_alone(images):
    np.testing.assert_allclose(measured(fixed, images, "brightness"), 1, atol=1e-5)
    np.testing.assert_allclose(measured(fixed, images, "flip"), -1, atol=1e-5)
    assert np.abs(measured(fixed, images, "rotation") - 1).min() > 0.2


def test_after_a_rotation_the_centre_alone_is_compared(images):
    """The corners, where nothing of the image is, would lower the agreement."""
    keys = augmentations.keys(images, KEY)
    ones = np.ones((2, 24, 24), np.float32)
    seen = np.asarray(augmentations.move("rotation", ones, keys))
    share = augmentations.AUGMENTATIONS["rotation"].seen
    margin = int(np.ceil(24 * (1 - share) / 2)) + 1
    assert (seen[:, margin:-margin, margin:-margin] > 1 - 1e-5).all()
    assert seen[:, 0, 0].max() == 0


def test_an_unknown_augmentation_and_a_missing_key_are_refused():
    with pytest.raises(ValueError, match="`augmentation`='flop' is unknown; did you"):
        metrics.equivariance(model(), luminous, augmentation="flop")
    with pytest.raises(ValueError, match="`key`=None"):
        metrics.equivariance(model(), luminous)(
            {}, jnp.zeros((1, 24, 24, 3)), jnp.asarray([0]), jnp.zeros((1, 24, 24))
        )
