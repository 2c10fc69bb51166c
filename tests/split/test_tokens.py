"""Tokens are laid out as a grid, and back; a grid that does not fit is a sentence."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax import saliency, split
from unlir_jax.split import tokens
from unlir_jax.types import Features


@pytest.mark.parametrize(
    ("layout", "count", "grid"),
    [("square", 9, (3, 3)), ((1, "square"), 10, (3, 3)), ((2, (2, 3)), 8, (2, 3))],
)
def test_a_grid_and_back(layout, count, grid):
    values = np.arange(2 * count * 4, dtype=np.float32).reshape(2, count, 4)
    known = tokens.check(layout)
    maps, leading = tokens.to_grid(values, known)
    assert maps.shape == (2, *grid, 4) and leading.shape == (2, known.leading, 4)
    # Row by row: the second row begins where the first ends.
    np.testing.assert_array_equal(maps[:, 1, 0], values[:, known.leading + grid[1]])
    np.testing.assert_array_equal(tokens.from_grid(maps, leading), values)


@pytest.mark.parametrize(
    ("layout", "count", "message"),
    [
        ("square", 197, "0 leading and a square, but the network has 197 tokens"),
        ("square", 197, "such as 1 + 14 x 14"),
        ((1, (13, 14)), 197, "1 leading and 13 x 14"),
        ((0, (2, 4)), 6, "or 0 + 2 x 3"),
        ((9, "square"), 5, "such as 1 + 2 x 2"),
    ],
)
def test_a_grid_that_does_not_fit_names_one_that_does(layout, count, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tokens.to_grid(np.zeros((1, count, 2)), tokens.check(layout))


@pytest.mark.parametrize(
    "layout", [(14, 14, 1), (-1, "square"), (1, "round"), (1, (0, 4)), (True, "square")]
)
def test_a_layout_that_is_none_is_refused_at_once(unchecked, layout):
    with pytest.raises(ValueError, match=r"expected \(leading, grid\)"):
        split.from_functions(lambda v, x: x, lambda v, x: x, tokens=layout)


def token_network(**settings):
    """Make tokens of the image's colours behind one token of ones."""

    def features(variables, images):
        flat = images.reshape(len(images), -1, 3)
        leading = jnp.ones((len(images), 1, 3))
        return Features(jnp.concatenate([leading, flat], 1), images)

    def head(variables, cut):
        first, rest = cut.maps[:, :1], cut.maps[:, 1:]
        return (first * rest**2).mean(1) + cut.context.mean((1, 2))

    return split.from_functions(features, head, **settings)


def test_leading_tokens_and_context_cross_the_cut(pictures):
    images = jnp.asarray(pictures[:2, :4, :4])
    plain, grid = token_network(), token_network(tokens=(1, "square"))
    cut = grid.features({}, images)
    assert cut.maps.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(cut.maps, images)
    logits = split.whole(plain)({}, images)
    np.testing.assert_allclose(split.whole(grid)({}, images), logits, atol=1e-6)
    # Grad-CAM of `mean(maps ** 2)`: weights are the mean of `2 maps / 16`.
    labels = jnp.asarray([0, 1])
    found = saliency.grad_cam(grid)({}, images, labels)
    one = jax.nn.one_hot(labels, 3)[:, None, None]
    weights = 2 * images.mean((1, 2), keepdims=True) / 16 * one
    np.testing.assert_allclose(found, (weights * images).sum(3), atol=1e-6)


def test_tokens_without_a_layout_are_answered_with_it(pictures):
    images = jnp.asarray(pictures[:1, :4, :4])
    with pytest.raises(ValueError, match=r"\(1, 17, 3\).*`tokens=`"):
        saliency.grad_cam(token_network())({}, images, jnp.asarray([0]))


def test_maps_are_no_tokens(pictures):
    model = split.from_functions(lambda v, x: x, lambda v, x: x, tokens="square")
    with pytest.raises(ValueError, match=r"arrays have shape \(2, 32, 32, 3\)"):
        model.features({}, pictures[:2])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, r"gives a tuple of 2; expected one array.*`output` chooses it"),
        (2, r"`output`=2 cannot be taken from a tuple of 2 \(IndexError"),
        ("logits", r"`output`='logits' cannot be taken from a tuple of 2 \(TypeError"),
        (lambda both: list(both), "gives a list of 2"),
    ],
)
def test_several_outputs_want_a_choice(pictures, output, message):
    def head(variables, maps):
        return maps.mean((1, 2)), maps.max((1, 2))

    model = split.from_functions(lambda v, x: x, head, output=output)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(split.whole(model), {}, pictures[:2])
    model = split.from_functions(lambda v, x: x, head, output=1)
    found = split.whole(model)({}, jnp.asarray(pictures[:2]))
    np.testing.assert_array_equal(found, pictures[:2].max((1, 2)))
