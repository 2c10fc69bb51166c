import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax.models import convolution, trained_convolution

# Batch, height, width, channels, filters, size, stride, padding.
CASES = [
    (3, 9, 8, 2, 4, 3, 1, "symmetric"),
    (2, 8, 9, 3, 4, 3, 2, "same"),
    (2, 15, 15, 3, 2, 7, 2, "symmetric"),
    (1, 7, 7, 2, 2, 3, 4, "symmetric"),
    (2, 9, 9, 3, 5, 4, 4, "symmetric"),
]


def convolve(images, kernel, stride=1, padding="symmetric", train=True):
    """Convolve as a network in training does on one CPU, or as in evaluation."""
    if not train:
        given = {"stride": stride, "padding": padding}
        return convolution.convolve(images, kernel, **given)
    margins = convolution.pads(padding, images.shape[1:3], len(kernel), stride)
    return trained_convolution.convolve(images, kernel, stride, margins)


def energies(case):
    """Give a sum over outputs, and one over first derivatives, by `train`."""
    *_, stride, padding = case

    def first(train):
        def energy(images, kernel):
            return jnp.sum(jnp.sin(convolve(images, kernel, stride, padding, train)))

        return energy

    def second(train):
        def energy(images, kernel):
            slopes = jax.grad(first(train), (0, 1))(images, kernel)
            return sum(jnp.sum(jnp.cos(each)) for each in slopes)

        return energy

    return first, second


@pytest.mark.parametrize(("case",), tiers.by_tier([(case,) for case in CASES], 2))
@pytest.mark.parametrize("numbers", [1 << 20, 200])
def test_derivatives_of_both_orders_are_those_of_xla(case, numbers, monkeypatch):
    monkeypatch.setattr(trained_convolution, "MOST_WINDOWS", numbers)
    batch, height, width, channels, filters, size, _, _ = case
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        images = jnp.asarray(random.normal(size=(batch, height, width, channels)))
        kernel = jnp.asarray(random.normal(size=(size, size, channels, filters)))
        for energy in energies(case):
            values = [jax.value_and_grad(energy(t), (0, 1)) for t in (True, False)]
            (one, slopes), (other, expected) = [
                jax.jit(value)(images, kernel) for value in values
            ]
            np.testing.assert_allclose(one, other, rtol=1e-12)
            for slope, reference in zip(slopes, expected, strict=True):
                np.testing.assert_allclose(slope, reference, atol=1e-11)


def test_sums_of_short_numbers_are_long():
    images = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
    kernel = jnp.zeros((1, 1, 1, 1), jnp.bfloat16)
    margins = (0, 0), (0, 0)

    def total(kernel):
        return jnp.sum(trained_convolution.convolve(images, kernel, 1, margins))

    slope = jax.grad(total)(kernel)
    assert slope.dtype == jnp.bfloat16
    assert float(slope[0, 0, 0, 0]) == 64 * 64  # A sum in bfloat16 ends at 256.


def test_there_is_no_forward_mode_and_the_docstring_says_so():
    given = (jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2)))
    assert "reverse mode only" in trained_convolution.convolve.__doc__
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(convolve, given, given)


def test_one_cpu_takes_it_for_training_alone(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    taken = []
    monkeypatch.setattr(
        trained_convolution, "convolve", lambda *of: taken.append(of) or of[0]
    )
    given = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    for train in (False, True):
        convolution.convolve(*given, shifted=True, train=train)
    assert len(taken) == 1
