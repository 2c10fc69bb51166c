import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import maps, saliency, split

LABELS = jnp.zeros(4, int)


@pytest.fixture(scope="module")
def model():
    return split.from_functions(
        lambda v, images: images, lambda v, maps_: maps_.mean((1, 2))
    )


def test_fake_cam_hides_one_pixel(model, pictures):
    mask = maps.normalize(saliency.fake_cam(model)({}, pictures, LABELS))
    assert (mask[:, 0, 0] == 0).all()
    assert mask.sum() == 4 * (32 * 32 - 1)


def test_center_is_a_symmetric_hill(model, pictures):
    found = saliency.center(model)({}, pictures, LABELS)
    np.testing.assert_allclose(found, found[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(found, found.transpose(0, 2, 1), atol=1e-6)
    # Pixels 16 and 24 lie 0.5 and 8.5 from the middle, a deviation is 8 pixels.
    expected = np.exp(-(8.5**2 - 0.5**2) / (2 * 8**2))
    assert found[0, 16, 24] / found[0, 16, 16] == pytest.approx(expected, rel=1e-5)


def test_edges_are_the_sobel_magnitude(model):
    images = np.zeros((1, 8, 8, 3), np.float32)
    images[:, :, 4:] = 1
    found = saliency.edges(model)({}, jnp.asarray(images), LABELS[:1])
    expected = np.zeros((8, 8))
    expected[:, 3:5] = 4
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_random_needs_a_key_and_is_uniform(model, pictures):
    with pytest.raises(ValueError, match="key"):
        saliency.random(model)({}, pictures, LABELS)
    draws = jnp.concatenate(
        [
            saliency.random(model)({}, pictures, LABELS, key=jax.random.key(seed))
            for seed in range(50)
        ]
    )
    # 9,800 draws: five standard errors of a uniform mean are 0.015.
    assert abs(float(draws.mean()) - 0.5) < 0.015
    assert abs(float(draws.var()) - 1 / 12) < 0.01


def test_every_method_is_listed_with_a_sentence():
    assert set(saliency.CONTROLS) <= set(saliency.METHODS)
    for name, factory in saliency.METHODS.items():
        assert factory is getattr(saliency, name)
        assert factory.__doc__.splitlines()[0].endswith((".", "`."))
