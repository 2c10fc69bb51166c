"""Random keys that belong to an image, not to its place in a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.types import Images, RandomKey


def per_image(key: RandomKey | None, images: Images) -> jax.Array:
    """Derive one key an image from the image itself.

    A pure function sees no file name, so the identity of an image is a hash of its
    pixels: its key, and all that is drawn from it, is the same alone, in any batch,
    in any order and on any device. Two equal images share a key.

    Returns:
        Typed keys, `[batch]`.

    Raises:
        TypeError: `key` is no typed key.
        ValueError: `key` is missing.
    """
    check(key)
    if key is None:
        raise ValueError(
            "`key`=None, but this function is random: pass key=jax.random.key(seed)."
        )
    return _folded(key, jnp.asarray(images))


@functools.partial(jax.jit, inline=True)
def _folded(key: jax.Array, images: jax.Array) -> jax.Array:
    return jax.vmap(lambda image: jax.random.fold_in(key, _hash(image)))(images)


def check(key: object) -> None:
    """Refuse what is no typed key of JAX; None is no key, which is for others to say.

    Raises:
        TypeError: An integer, or an array of integers, as older keys are.
    """
    if key is None:
        return
    kind = getattr(key, "dtype", None)
    if kind is None or not jnp.issubdtype(kind, jax.dtypes.prng_key):
        known = "" if kind is None else f" of {kind}"
        raise TypeError(
            f"`key` is a {type(key).__name__}{known}; expected a typed key, "
            "key=jax.random.key(seed), or jax.random.wrap_key_data of an older one."
        )


def check_seed(seed: int) -> None:
    """Refuse what no key can be made of.

    Raises:
        ValueError: It is negative, or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"`seed`={seed}; expected an integer from 0 to 4294967295.")


def _hash(image: jax.Array) -> jax.Array:
    words = jax.lax.bitcast_convert_type(image.astype(jnp.float32), jnp.uint32).ravel()
    # Odd multipliers that differ by position: a permutation of the pixels hashes
    # differently; sums modulo 2**32 do not depend on the order of summation.
    position = jax.lax.iota(jnp.uint32, words.size) * np.uint32(2654435761) | 1
    mixed = (words ^ (words >> 15)) * position
    return jnp.sum(mixed ^ (mixed >> 13), dtype=jnp.uint32)
