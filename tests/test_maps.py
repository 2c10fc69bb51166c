import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import maps


def random_maps(shape=(3, 7, 5), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", [(7, 5), (14, 10), (23, 31), (224, 224), (3, 4)])
def test_resize_is_half_pixel_bilinear(size):
    saliency = random_maps()
    expected = jax.image.resize(saliency, (3, *size), "bilinear", antialias=False)
    np.testing.assert_allclose(maps.resize(saliency, size), expected, atol=2e-6)


def test_resize_by_hand():
    # Centres of the four samples lie at -0.25, 0.25, 0.75 and 1.25 of the two inputs.
    found = maps.resize(jnp.asarray([[[0.0, 1.0]]]), (1, 4))
    np.testing.assert_allclose(found[0, 0], [0, 0.25, 0.75, 1], atol=1e-7)


def test_resize_refuses_a_channel_axis(unchecked):
    with pytest.raises(ValueError, match=r"\[batch, rows, columns\]"):
        maps.resize(jnp.zeros((1, 7, 7, 1)), (14, 14))


def test_range_reaches_zero_and_one_for_each_map_alone():
    saliency = random_maps() * jnp.asarray([1.0, 100.0, 1e-6])[:, None, None]
    found = maps.normalize(saliency, "range")
    np.testing.assert_allclose(found.min((1, 2)), 0, atol=1e-7)
    np.testing.assert_allclose(found.max((1, 2)), 1, atol=1e-6)
    alone = maps.normalize(saliency[1:2], "range")
    assert (alone[0] == found[1]).all()


def test_normalize_ignores_positive_scale_and_for_range_any_shift():
    saliency = random_maps()
    for mode in ("range", "max"):
        scaled = maps.normalize(7.5 * saliency, mode)
        np.testing.assert_allclose(scaled, maps.normalize(saliency, mode), atol=1e-6)
    shifted = maps.normalize(saliency + 3, "range")
    np.testing.assert_allclose(shifted, maps.normalize(saliency, "range"), atol=1e-5)


def test_max_and_sigmoid_by_hand():
    saliency = jnp.asarray([[[-1.0, 2.0, 4.0]]])
    np.testing.assert_allclose(maps.normalize(saliency, "max")[0, 0], [0, 0.5, 1])
    expected = 1 / (1 + np.exp([1.0, -2.0, -4.0]))
    np.testing.assert_allclose(
        maps.normalize(saliency, "sigmoid")[0, 0], expected, rtol=1e-6
    )


@pytest.mark.parametrize("mode", ["range", "max", "sigmoid"])
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, np.nan, np.inf, 1e-30])
def test_a_flat_or_broken_map_gives_zeros_and_is_counted(mode, value):
    saliency = jnp.stack([jnp.full((4, 4), value), jnp.arange(16.0).reshape(4, 4)])
    found = maps.normalize(saliency, mode)
    assert (found[0] == 0).all() and jnp.isfinite(found).all()
    assert found[1].max() > 0.9
    assert maps.is_flat(saliency).tolist() == [True, False]


def test_one_nan_spoils_its_own_map_only():
    saliency = random_maps().at[1, 2, 2].set(jnp.nan)
    assert maps.is_flat(saliency).tolist() == [False, True, False]
    assert jnp.isfinite(maps.normalize(saliency)).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 123.456])
def test_a_flat_map_stays_flat_when_enlarged(value):
    enlarged = maps.resize(jnp.full((2, 7, 7), value), (224, 200))
    assert maps.is_flat(enlarged).all()
    assert (maps.normalize(enlarged) == 0).all()


@pytest.mark.parametrize("mode", ["range", "max", "sigmoid"])
def test_gradients_are_finite_also_where_maps_are_flat(mode):
    saliency = jnp.stack([jnp.ones((3, 3)), jnp.arange(9.0).reshape(3, 3)])
    weights = random_maps((2, 3, 3))
    gradient = jax.grad(lambda s: jnp.sum(weights * maps.normalize(s, mode)))(saliency)
    assert jnp.isfinite(gradient).all()
    assert (gradient[0] == 0).all() and (gradient[1] != 0).any()


def test_unknown_names_list_the_known_ones(unchecked):
    with pytest.raises(ValueError, match="'minmax'.*'range', 'max', 'sigmoid'"):
        maps.normalize(random_maps(), "minmax")
    with pytest.raises(ValueError, match="'white'.*'black', 'mean', 'blur', 'noise'"):
        maps.background(jnp.zeros((1, 4, 4, 3)), "white")


def test_mask_keeps_and_replaces(pictures, unchecked):
    images = jnp.asarray(pictures)
    mask = jnp.zeros(images.shape[:3]).at[:, :16].set(1)
    black = maps.apply_mask(images, mask)
    assert (black[:, :16] == images[:, :16]).all() and (black[:, 16:] == 0).all()
    grey = maps.apply_mask(images, mask, jnp.full_like(images, 0.5))
    assert (grey[:, 16:] == 0.5).all()
    with pytest.raises(ValueError, match=r"maps\.resize"):
        maps.apply_mask(images, mask[:, ::2, ::2])


def test_backgrounds(pictures):
    images, mean = jnp.asarray(pictures), (0.5, 0.4, 0.3)
    assert (maps.background(images, "black") == 0).all()
    coloured = maps.background(images, "mean", mean=mean)
    np.testing.assert_allclose(coloured[1, 2, 3], mean, rtol=1e-6)
    blurred = maps.background(
        jnp.broadcast_to(coloured, images.shape), "blur", mean=mean
    )
    np.testing.assert_allclose(blurred, coloured, atol=1e-6)
    assert jnp.std(maps.background(images, "blur", mean=mean)) < jnp.std(images)


@pytest.mark.exhaustive
def test_blur_is_the_convolution_with_its_kernel(pictures):
    images = jnp.asarray(pictures[:1])
    kernel = maps.blur_kernel()
    assert kernel.shape == (11,) and abs(kernel.sum() - 1) < 1e-12
    np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-15)
    padded = np.pad(np.asarray(images[0]), ((5, 5), (5, 5), (0, 0)))
    window = padded[8:19, 3:14]
    expected = np.einsum("i,j,ijc->c", kernel, kernel, window)
    found = maps.background(images, "blur")[0, 8, 3]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.exhaustive
def test_noise_belongs_to_the_image(pictures):
    images, key = jnp.asarray(pictures), jax.random.key(0)
    noise = maps.background(images, "noise", key=key)
    alone = maps.background(images[2:3], "noise", key=key)
    assert (noise[2] == alone[0]).all() and (noise[0] != noise[1]).any()
    assert 0 <= noise.min() and noise.max() <= 1
    with pytest.raises(ValueError, match="key"):
        maps.background(images, "noise")
