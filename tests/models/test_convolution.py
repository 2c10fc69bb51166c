import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax.models import convolution, layers

CASES = [
    *itertools.product([3], [2, 1], ["same", "symmetric"], [(9, 12), (8, 7)]),
    *itertools.product([5], [2], ["same", "symmetric"], [(8, 7)]),
]


def depthwise(size, stride, padding, shape, shifted):
    def apply(images, kernel):
        return convolution.convolve(
            images, kernel, stride=stride, padding=padding, groups=6, shifted=shifted
        )

    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(2, *shape, 6)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(size, size, 1, 6)), jnp.float32)
    return apply, images, kernel


@pytest.mark.parametrize(
    ("size", "stride", "padding", "shape"), tiers.by_tier(CASES, 4)
)
def test_shifted_products_are_the_convolution(size, stride, padding, shape):
    found = []
    for shifted in (False, True):
        apply, *inputs = depthwise(size, stride, padding, shape, shifted)

        @jax.jit
        def with_slopes(images, kernel, apply=apply):
            output, back = jax.vjp(apply, images, kernel)
            weights = jnp.cos(jnp.arange(output.size * 1.0)).reshape(output.shape)
            return output, back(weights)

        found.append(with_slopes(*inputs))
    (slow, slow_slopes), (fast, fast_slopes) = found
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    for one, other in zip(fast_slopes, slow_slopes, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


@pytest.mark.exhaustive
def test_all_transformations_go_through():
    fast, images, kernel = depthwise(3, 2, "same", (9, 12), True)
    slow, _, _ = depthwise(3, 2, "same", (9, 12), False)

    def energy(function):
        return lambda images, kernel: jnp.sum(function(images, kernel) ** 3)

    tangents = (jnp.ones_like(images), jnp.ones_like(kernel))
    for found, expected in zip(
        jax.jvp(fast, (images, kernel), tangents),
        jax.jvp(slow, (images, kernel), tangents),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    # Forward over reverse: the Hessian times a vector.
    for function in (jax.grad(energy(fast)), jax.grad(energy(fast), 1)):
        jax.jvp(function, (images, kernel), tangents)
    hessian = jax.jvp(jax.grad(energy(fast)), (images, kernel), tangents)[1]
    expected = jax.jvp(jax.grad(energy(slow)), (images, kernel), tangents)[1]
    np.testing.assert_allclose(hessian, expected, rtol=1e-3, atol=1e-2)
    kernels = jnp.stack([kernel, 2 * kernel])
    together = jax.vmap(fast, (None, 0))(images, kernels)
    np.testing.assert_allclose(together[1], 2 * together[0], rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_one_by_one_is_a_matrix_product(stride, padding):
    random = np.random.default_rng(1)
    images = jnp.asarray(random.normal(size=(2, 7, 8, 4)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(1, 1, 4, 5)), jnp.float32)
    settings = {"stride": stride, "padding": padding}
    found = convolution.convolve(images, kernel, shifted=True, **settings)
    expected = convolution.convolve(images, kernel, shifted=False, **settings)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_rules_by_hand():
    assert convolution.pads("symmetric", (8, 9), 3, 2) == ((1, 1), (1, 1))
    # TensorFlow: 8 -> 4 needs one zero, at the far side; 9 -> 5 needs two.
    assert convolution.pads("same", (8, 9), 3, 2) == ((0, 1), (1, 1))
    assert convolution.pads("same", (8, 9), 5, 1) == ((2, 2), (2, 2))


def test_running_variances_divide_by_the_number():
    """PyTorch divides by one less, and comes to 1.0667."""
    layer = layers.ConvNorm(1, 1, style=layers.Style(momentum=0.9))
    images = jnp.arange(1.0, 5.0).reshape((1, 2, 2, 1))
    variables = layer.init(jax.random.key(0), images)
    kernel = jnp.ones_like(variables["params"]["conv"]["kernel"])
    params = variables["params"] | {"conv": {"kernel": kernel}}
    variables = variables | {"params": params}
    _, moved = layer.apply(variables, images, train=True, mutable=["batch_stats"])
    found = float(moved["batch_stats"]["norm"]["var"][0])
    assert found == pytest.approx(0.9 + 0.1 * 1.25)
