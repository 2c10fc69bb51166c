"""Mixtures of two images and of their labels.

Images are mixed in pairs of neighbours, 0 with 1, 2 with 3, …: batches are shuffled
already, and a pair never lies on two devices, so nothing is exchanged. Each pair has
shares and boxes of its own, drawn from its place in the global batch.
"""

import math

import jax
import jax.numpy as jnp

from unlir_jax.runtime import mesh
from unlir_jax.types import Array, Images, RandomKey


def mix(
    key: RandomKey,
    position: Array,
    images: Images,
    targets: Array,
    weight: Array,
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Mix each image with its neighbour, by mixup or cutmix.

    Mixup: Zhang et al., ICLR 2018, x' = l x_i + (1 - l) x_j with l from Beta(a, a);
    cutmix: Yun et al., ICCV 2019, a box of x_j covering the share 1 - l. Where both
    strengths are given, each pair takes one of the two by the toss of a coin.

    Args:
        key: Random key of this step.
        position: Places of the rows in the global batch.
        images: `[batch, height, width, channels]`, or features of any shape for mixup.
        targets: `[batch, classes]`.
        weight: A row that counts for nothing is not mixed into its neighbour.
        mixup: The a of mixup; 0 for none.
        cutmix: The a of cutmix; 0 for none.

    Raises:
        ValueError: A negative strength, or an odd number of rows on a device.
    """
    check_strengths(mixup, cutmix)
    if not mixup and not cutmix:
        return jnp.asarray(images), jnp.asarray(targets)
    if images.shape[0] % 2:
        raise ValueError(
            f"{images.shape[0]} rows cannot be mixed in pairs; expected a batch size "
            "that is even on each device."
        )
    keys = mesh.per_row_keys(key, jnp.asarray(position) // 2)
    share_key, coin_key, box_key = (
        jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys) for i in range(3)
    )
    coins = jax.vmap(jax.random.bernoulli)(coin_key)
    is_cut = coins if mixup and cutmix else jnp.full(coins.shape, bool(cutmix))
    alpha = jnp.where(is_cut, cutmix or 1.0, mixup or 1.0)
    share = jax.vmap(lambda k, a: jax.random.beta(k, a, a))(share_key, alpha)
    alone = (jnp.asarray(weight) * _neighbours(jnp.asarray(weight))) == 0
    share = jnp.where(alone, 1.0, share)
    own = jnp.broadcast_to(
        share.reshape((-1,) + (1,) * (images.ndim - 1)), images.shape
    )
    if cutmix:
        boxes = jax.vmap(lambda k, s: _outside_box(k, s, images.shape[1:3]))(
            box_key, share
        )
        share = jnp.where(is_cut, boxes.mean((1, 2)), share)
        rows = (-1,) + (1,) * (images.ndim - 1)
        own = jnp.where(is_cut.reshape(rows), boxes[..., None], own)
    mixed = own * images + (1 - own) * _neighbours(jnp.asarray(images))
    share = share[:, None]
    return mixed, share * targets + (1 - share) * _neighbours(jnp.asarray(targets))


def check_strengths(mixup: float, cutmix: float) -> None:
    """Refuse strengths that are none.

    Raises:
        ValueError: One is negative or not finite.
    """
    if not (0 <= mixup < math.inf and 0 <= cutmix < math.inf):
        raise ValueError(
            f"`mixup`={mixup}, `cutmix`={cutmix}; expected numbers from 0, which is "
            "none."
        )


def _neighbours(rows: jax.Array) -> jax.Array:
    """Swap rows 0 and 1, 2 and 3, …."""
    pairs = rows.reshape((rows.shape[0] // 2, 2, *rows.shape[1:]))
    return pairs[:, ::-1].reshape(rows.shape)


def _outside_box(key: jax.Array, share: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Draw a mask: 0 in a box of about the area 1 - share, 1 outside."""
    height, width = size
    y, x = jax.random.uniform(key, (2,))
    half = jnp.sqrt(1 - share) / 2
    rows = jnp.abs((jnp.arange(height) + 0.5) / height - y) < half
    columns = jnp.abs((jnp.arange(width) + 0.5) / width - x) < half
    return 1.0 - (rows[:, None] & columns[None, :]).astype(jnp.float32)
