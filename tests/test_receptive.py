"""Where cells look: against closed forms, and against a dot that moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import maps
from unlir_jax.features import receptive_field
from unlir_jax.models import convolution

SIZE = 96
BINOMIAL = np.outer([1, 2, 1], [1, 2, 1])[..., None, None] / 16


def network(padding):
    """Blur and halve the brightness three times: cells of 8 pixels."""

    def features(kernel, images):
        found = jnp.asarray(images).mean(-1, keepdims=True)
        for _ in range(3):
            found = convolution.convolve(found, kernel, stride=2, padding=padding)
        return jax.nn.relu(found)

    return features


# The centre of cell 0: after each stride of 2 with kernel 3, zeros of one pixel before
# the input leave it where it was (pixel 0, at 0.5), none move it by one input pixel.
FIRST = {"symmetric": 0.5, "same": 0.5 + 1 + 2 + 4}


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, SIZE, SIZE, 3), np.float32)


@pytest.mark.parametrize("padding", FIRST)
def test_centres_are_those_of_the_strides(padding, images):
    kernel = jnp.asarray(BINOMIAL, jnp.float32)
    found = receptive_field.measure(network(padding), kernel, images)
    expected = (FIRST[padding] + 8 * np.arange(SIZE // 8)) / SIZE
    np.testing.assert_allclose(found.rows, expected, atol=1e-5)
    np.testing.assert_allclose(found.columns, expected, atol=1e-5)


@pytest.mark.parametrize("padding", FIRST)
def test_the_peak_is_nearer_to_a_dot_than_by_enlarging(padding, images):
    kernel = jnp.asarray(BINOMIAL, jnp.float32)
    features = network(padding)
    centres = receptive_field.measure(features, kernel, images)
    away = {"true": [], "even": []}
    for row in range(18, 78, 7):
        for column in range(20, 78, 9):
            image = np.zeros((1, SIZE, SIZE, 3), np.float32)
            image[:, row, column] = 1
            found = features(kernel, image)[..., 0]
            drawn = {
                "true": receptive_field.place(found, centres, SIZE),
                "even": maps.resize(found, (SIZE, SIZE)),
            }
            for name, heat in drawn.items():
                peak = np.unravel_index(np.argmax(np.asarray(heat)[0]), (SIZE, SIZE))
                away[name].append(np.hypot(peak[0] - row, peak[1] - column))
    # A cell of 8 pixels cannot tell more than where it is: half its side, either way.
    assert np.max(away["true"]) <= np.hypot(4, 4) + 1
    assert np.mean(away["true"]) < 0.75 * np.mean(away["even"])


def test_even_centres_enlarge_bilinearly():
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 5, 7)).astype(np.float32)
    placed = receptive_field.place(values, receptive_field.even(5, 7), 20)
    np.testing.assert_allclose(placed, maps.resize(values, (20, 20)), atol=1e-5)
    many = receptive_field.place(values[..., None], receptive_field.even(5, 7), 20)
    np.testing.assert_array_equal(many[..., 0], placed)


def test_cells_that_nothing_moves_are_taken_to_be_even(images):
    def constant(variables, images):
        return jnp.ones((len(images), 4, 6, 2))

    found = receptive_field.measure(constant, None, images)
    assert found == receptive_field.even(4, 6)


def test_other_maps_are_refused():
    with pytest.raises(ValueError, match="a cell for each of the centres"):
        receptive_field.place(np.zeros((1, 4, 4)), receptive_field.even(4, 5), 8)
