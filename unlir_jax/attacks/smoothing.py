"""Smoothing of changes along an image: flat where it is flat, free at its edges.

Zhang, Avrithis, Furon & Amsaleg, *Smooth Adversarial Examples*, EURASIP Journal on
Information Security (2020), arXiv 1903.11862.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse import linalg

from unlir_jax.attacks import settings
from unlir_jax.types import Images

ITERATIONS = 50
"""Most iterations of conjugate gradients, as the authors have it."""
TOLERANCE = 1e-6
"""Share of the right side's norm at which conjugate gradients end."""


class Smoothing(NamedTuple):
    """Hold the settings of a smoothing.

    Attributes:
        edges: Factor of squared differences of neighbours, above which an edge parts
            them; 0 for a blur that ignores the image.
        strength: Share of a change that neighbours decide; below 1.
    """

    edges: float = 10.0
    strength: float = 0.95


class Graph(NamedTuple):
    """Hold the links of neighbours in an image, one entry an image.

    Attributes:
        right: Link to the next column, zero in the last one, as large as the images.
        below: Link to the next row, zero in the last one, as large as the images.
        ones: What a constant 1 is smoothed to, as large as the images.
    """

    right: jax.Array
    below: jax.Array
    ones: jax.Array


def checked(edges: float, strength: float) -> Smoothing:
    """Put settings together, and refuse those that make no sense.

    Raises:
        ValueError: `edges` is negative, or `strength` is not between 0 and 1.
    """
    settings.check_least("edges", edges, 0)
    settings.check_share("strength", strength)
    return Smoothing(edges, strength)


def graph(images: Images, smoothing: Smoothing) -> Graph:
    """Link the four neighbours of each pixel, each channel on its own.

    `A_ij = exp(-edges (x_i - x_j)^2)`, and the links are `W = D^-1/2 A D^-1/2`, where
    `D` has the sums of rows of `A`.

    Args:
        images: `[batch, height, width, channels]`.
        smoothing: See `Smoothing`.

    References:
        Zhang et al., *Smooth Adversarial Examples*, EURASIP Journal on Information
        Security (2020), arXiv 1903.11862, Section 3.
    """
    images = jnp.asarray(images)
    right = _links(images, smoothing.edges, 2)
    below = _links(images, smoothing.edges, 1)
    sums = _neighbours(jnp.ones_like(images), right, below)
    # An image of one pixel has no neighbour.
    scale = 1 / jnp.sqrt(jnp.where(sums > 0, sums, 1))
    right = right * scale * _next(scale, 2)
    below = below * scale * _next(scale, 1)
    ones = _solved(jnp.ones_like(images), right, below, smoothing.strength)
    return Graph(right, below, ones)


def smooth(changes: jax.Array, graph: Graph, smoothing: Smoothing) -> jax.Array:
    """Smooth changes of images along their graphs; a constant stays what it is.

    `s(z) = (1 - strength) (1 - strength W)^-1 z`, divided by `s(1)`.

    Args:
        changes: As large as the images.
        graph: What `graph` made of the images.
        smoothing: The settings with which it did.
    """
    strength = smoothing.strength
    return _solved(changes, graph.right, graph.below, strength) / graph.ones


def spread(gradient: jax.Array, graph: Graph, smoothing: Smoothing) -> jax.Array:
    """Give the gradient by what `smooth` smoothes, of the gradient by its result."""
    strength = smoothing.strength
    return _solved(gradient / graph.ones, graph.right, graph.below, strength)


def _links(images: jax.Array, edges: float, axis: int) -> jax.Array:
    """Weigh the pairs of a pixel and the next one along an axis."""
    weights = jnp.exp(-edges * (_next(images, axis) - images) ** 2)
    count = images.shape[axis]
    place = jnp.arange(count).reshape([count if a == axis else 1 for a in range(4)])
    return jnp.where(place < count - 1, weights, 0)


def _next(values: jax.Array, axis: int) -> jax.Array:
    """Move values by one, so that each pixel has that of the next."""
    return jnp.roll(values, -1, axis)


def _before(values: jax.Array, axis: int) -> jax.Array:
    return jnp.roll(values, 1, axis)


def _neighbours(values: jax.Array, right: jax.Array, below: jax.Array) -> jax.Array:
    """Sum the neighbours of each pixel, times their links."""
    forward = right * _next(values, 2) + below * _next(values, 1)
    return forward + _before(right * values, 2) + _before(below * values, 1)


def _solved(
    changes: jax.Array, right: jax.Array, below: jax.Array, strength: float
) -> jax.Array:
    """Solve for each image alone, as many iterations as it takes."""

    def one(change: jax.Array, right: jax.Array, below: jax.Array) -> jax.Array:
        def product(values: jax.Array) -> jax.Array:
            around = _neighbours(values[None], right[None], below[None])[0]
            return values - strength * around

        largest = jnp.max(jnp.abs(change))
        scale = jnp.where(largest > 0, largest, 1)  # Squares of tiny numbers vanish.
        found, _ = linalg.cg(product, change / scale, tol=TOLERANCE, maxiter=ITERATIONS)
        return (1 - strength) * scale * found

    return jax.vmap(one)(changes, right, below)
