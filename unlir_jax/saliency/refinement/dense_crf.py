"""Mean field of a dense CRF, which moves borders of labels to borders of colours."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from unlir_jax.saliency.refinement import pixels
from unlir_jax.types import Array, Images

Probabilities = Float[Array, "batch rows columns labels"]


def dense_crf(
    images: Images,
    probabilities: Probabilities,
    *,
    iterations: int = 10,
    appearance: float | int = 10.0,
    smoothness: float | int = 3.0,
    near: float | int = 0.25,
    colour: float | int = 0.05,
    blur: float | int = 0.02,
) -> jax.Array:
    """Let all pairs of pixels agree on labels, the more the nearer and more alike.

    With places `p` as shares of the longer side and colours `I` in [0, 1],

    `k_ij = appearance exp(-|p_i - p_j|² / 2 near² - |I_i - I_j|² / 2 colour²)
    + smoothness exp(-|p_i - p_j|² / 2 blur²)`, each exponential divided by the square
    roots of its sums over `i` and over `j`. From `Q = P`, each iteration sets
    `Q_i(l) = softmax_l(log P_i(l) + sum_{j != i} k_ij Q_j(l))`, the mean field of the
    Potts model.

    Args:
        images: `[batch, height, width, 3]`; averaged down to the maps' size if larger.
        probabilities: Probability of each label before; the last axis sums to 1.
        iterations: Number of updates, 0 or more.
        appearance: Weight of near pixels of one colour.
        smoothness: Weight of near pixels of any colour.
        near: Distance in which colours are compared, as a share of the longer side.
        colour: Distance of colours that are alike, in [0, 1].
        blur: Distance of smoothing, as a share of the longer side.

    Returns:
        Probabilities as before, of the same shape.

    Raises:
        ValueError: Shapes that do not fit, a width that is not positive, a negative
            weight, or so many pixels that their pairs do not fit into memory.

    References:
        Krähenbühl and Koltun, *Efficient inference in fully connected CRFs with
        Gaussian edge potentials*, NeurIPS 2011, Eq. 3 and Algorithm 1. Differences: all
        pairs are summed instead of filtered, positions and colours do not depend on the
        size of the image, and the kernels are normalised as in the authors' later code.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency
        >>> images = jnp.asarray([[[[0.0] * 3, [0.0] * 3, [1.0] * 3, [1.0] * 3]]])
        >>> seeds = jnp.asarray([[[[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.1, 0.9]]]])
        >>> found = saliency.dense_crf(images, seeds, near=1.0, blur=1.0)
        >>> found.argmax(-1).tolist()
        [[[0, 0, 1, 1]]]
    """
    _check(images, probabilities, iterations)
    for name, value in (("near", near), ("colour", colour), ("blur", blur)):
        if not value > 0:
            raise ValueError(f"`{name}`={value}; expected a distance above 0.")
    for name, value in (("appearance", appearance), ("smoothness", smoothness)):
        if not value >= 0:
            raise ValueError(f"`{name}`={value}; expected a weight of 0 or more.")
    weights = tuple(map(float, (appearance, smoothness, near, colour, blur)))
    before = jnp.asarray(probabilities)
    steps = pixels.squared_steps(before.shape[1:3]).astype(before.dtype)
    return _mean_field(jnp.asarray(images), before, steps, weights, iterations)


def _check(images: Images, probabilities: Probabilities, iterations: int) -> None:
    shape = jnp.shape(probabilities)
    if len(shape) != 4 or shape[0] != jnp.shape(images)[0] or shape[3] < 2:
        raise ValueError(
            f"`probabilities` has shape {shape}; expected [batch, rows, columns, "
            f"labels], two labels or more, for {jnp.shape(images)[0]} images."
        )
    size, sides = shape[1:3], jnp.shape(images)[1:3]
    if size[0] > sides[0] or size[1] > sides[1]:
        raise ValueError(
            f"`probabilities` has {size} pixels; expected at most "
            f"{sides}, as the images have."
        )
    pixels.check_count("probabilities", size)
    if iterations < 0:
        raise ValueError(f"`iterations`={iterations}; expected 0 or more.")


@functools.partial(jax.jit, static_argnums=(3, 4))
def _mean_field(
    images: jax.Array,
    probabilities: jax.Array,
    steps: jax.Array,
    weights: tuple[float, ...],
    iterations: int,
) -> jax.Array:
    small = pixels.shrunk(images, probabilities.shape[1:3])
    small = small.astype(probabilities.dtype)
    tiny = float(jnp.finfo(probabilities.dtype).tiny)

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        image, before = pair
        begun = before.reshape((-1, before.shape[-1]))
        unary = jnp.log(jnp.maximum(begun, tiny))
        kernel = _kernel(image, steps, weights)

        def update(_: jax.Array, now: jax.Array) -> jax.Array:
            pairwise = jnp.matmul(kernel, now, precision="highest")
            return jax.nn.softmax(unary + pairwise, axis=-1)

        return jax.lax.fori_loop(0, iterations, update, begun).reshape(before.shape)

    return jax.lax.map(one, (small, probabilities))


def _kernel(
    image: jax.Array, steps: jax.Array, weights: tuple[float, ...]
) -> jax.Array:
    """Add both kernels up, each normalised and without a pixel's own term."""
    appearance, smoothness, near, colour, blur = weights
    colours = pixels.squared_distances(image)
    alike = jnp.exp(-steps / (2 * near**2) - colours / (2 * colour**2))
    close = jnp.exp(-steps / (2 * blur**2))
    both = appearance * _normalized(alike) + smoothness * _normalized(close)
    return jnp.where(jnp.eye(len(both), dtype=bool), 0, both)


def _normalized(kernel: jax.Array) -> jax.Array:
    root = jax.lax.rsqrt(kernel.sum(1))
    return root[:, None] * kernel * root[None]
