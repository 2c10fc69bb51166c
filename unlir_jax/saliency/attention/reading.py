"""Rows of attention as maps, and its derivatives."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from unlir_jax import split
from unlir_jax.core import choices
from unlir_jax.split import scores
from unlir_jax.types import (
    Array,
    Attended,
    Explainer,
    Images,
    Labels,
    SplitModel,
    Variables,
)

Heads = Literal["mean", "max", "min"]
_FUSED: dict[str, Callable[..., jax.Array]] = {
    "mean": jnp.mean,
    "max": jnp.max,
    "min": jnp.min,
}
Weights = tuple[jax.Array, ...]


def check_heads(heads: str) -> None:
    """Refuse a way of fusing heads that is none.

    Raises:
        ValueError: It is unknown.
    """
    choices.pick(heads, _FUSED, f"`heads`={heads!r} is no way of fusing heads")


def check_start(start: int) -> None:
    """Refuse the number of a block that is none.

    Raises:
        ValueError: It is negative.
    """
    if start < 0:
        raise ValueError(f"`start`={start}; expected the number of a block, from 0.")


def check_block(name: str, block: int, weights: Weights) -> None:
    """Refuse the number of a block that a network does not have.

    Raises:
        ValueError: There are fewer blocks.
    """
    if not -len(weights) <= block < len(weights):
        least = 0 if name == "start" else -len(weights)
        raise ValueError(
            f"`{name}`={block}, but the network has {len(weights)} blocks; expected "
            f"{least} to {len(weights) - 1}."
        )


def fused(weights: jax.Array, heads: Heads) -> jax.Array:
    """Fuse heads: `[batch, queries, keys]`."""
    return _FUSED[heads](weights, axis=1)


def leading(model: SplitModel) -> int:
    """Count the tokens before the grid."""
    return model.attention.leading if model.attention else 0


def parted(weights: Weights) -> tuple[Weights, Weights]:
    """Part the blocks from the layers that read their tokens by one query."""
    count = len(weights) - split.attention.readers([each.shape for each in weights])
    return weights[:count], weights[count:]


def first_row(mixed: Weights, leading: int, *, normalise: bool = False) -> jax.Array:
    """Give the weight of each token of the last block in what is classified.

    It is the class token, or where no token leads, the mean of all. Attention pooling
    gives its own row. Class attention gives the row of the class token, with the way
    around it.

    Args:
        mixed: Fused weights of all layers, `[batch, queries, keys]`.
        leading: Number of tokens before the grid.
        normalise: Whether rows that read the tokens, of class attention with the way
            around, are divided by their sums.

    Returns:
        `[batch, tokens]`.
    """
    blocks, readers = parted(mixed)
    batch, _, tokens = blocks[0].shape
    dtype = blocks[0].dtype
    if not readers:
        return _of_token(batch, tokens, leading, dtype)
    if readers[-1].shape[-1] == tokens:
        row = readers[-1][:, 0]
        return row / jnp.sum(row, axis=-1, keepdims=True) if normalise else row
    row = _of_token(batch, tokens + 1, 1, dtype)
    for each in reversed(readers):
        own = row[:, :1]
        own = own / (jnp.sum(each, axis=-1) + 1) if normalise else own
        row = jnp.concatenate([own, row[:, 1:]], axis=1) + own * each[:, 0]
    return row[:, 1:]


def multiplied(mixed: Weights, start: int, leading: int) -> jax.Array:
    """Give the row of `Π (I + mixed)` of what is classified, less its own token.

    Args:
        mixed: Fused weights of all layers, `[batch, queries, keys]`.
        start: Number of the first block.
        leading: Number of tokens before the grid.

    Raises:
        ValueError: There are fewer blocks.
    """
    blocks, readers = parted(mixed)
    check_block("start", start, blocks)
    row = own = first_row(mixed, leading)
    for each in reversed(blocks[start:]):
        row = row + jnp.einsum("bq,bqk->bk", row, each)
    # What reads the tokens says something of them already.
    return row if readers else row - own


def _of_token(batch: int, tokens: int, leading: int, dtype: DTypeLike) -> jax.Array:
    """Give the row of the first token, or without one that leads the mean of all."""
    if leading:
        return jnp.zeros((batch, tokens), dtype).at[:, 0].set(1)
    return jnp.full((batch, tokens), 1 / tokens, dtype)


def row_of(weights: Weights, block: int, row: jax.Array) -> jax.Array:
    """Give the row of one layer: `[batch, heads, tokens]`.

    Args:
        weights: Weights of all layers, or what has their shapes.
        block: Number of the layer; one that reads has a row of its own.
        row: Weight of each query of a block, `[batch, tokens]`.
    """
    each = weights[block]
    if len(parted(weights)[0]) <= block % len(weights):
        # The class token of class attention has no place behind the blocks.
        return each[:, :, 0, each.shape[-1] - row.shape[-1] :]
    return jnp.einsum("bq,bhqk->bhk", row, each)


def explainer(
    model: SplitModel,
    relevance: Callable[[Variables, Images, Labels], tuple[jax.Array, jax.Array]],
    score: scores.Score | None = None,
) -> Explainer:
    """Make an explainer of what gives a number for each token.

    Args:
        model: A network whose attention is known.
        relevance: `(variables, images, labels) -> ([batch, tokens], logits)`.
        score: Score that is explained; None where the labels play no part.
    """

    @jax.jit
    def compute(variables: Variables, images: Images, labels: Labels) -> jax.Array:
        known = split.attention.check(model, variables, images)
        features = jax.eval_shape(model.features, variables, images)
        found, logits = relevance(variables, images, labels)
        grid = found[:, known.leading :].reshape(len(images), *features.maps.shape[1:3])
        # A network that gives no numbers is not explained, whatever it attends to.
        wrong = split.meaningless(logits.reshape(len(images), 1, -1))
        return grid * jnp.where(wrong, jnp.nan, 1).astype(grid.dtype)

    @split.guarded(model, score)
    def explain(
        variables: Variables, images: Images, labels: Labels, *, key: object = None
    ) -> jax.Array:
        del key
        return compute(variables, images, labels)

    return explain


def read(model: SplitModel, variables: Variables, images: Images) -> Attended:
    """Give logits, and the weights of each block, `[batch, heads, queries, keys]`."""
    known = split.attention.check(model, variables, images)
    return known.run(variables, images)


def differentiated(
    model: SplitModel,
    score: scores.Score,
    variables: Variables,
    images: Images,
    labels: Labels,
) -> tuple[Attended, Weights]:
    """Give what `read` gives, and the score's derivatives by the weights."""
    known = split.attention.check(model, variables, images)

    def total(added: Weights) -> tuple[jax.Array, Attended]:
        attended = known.run(variables, images, added)
        return jnp.sum(score(attended.logits, labels)), attended

    gradients, attended = jax.grad(total, has_aux=True)(zeros(model, variables, images))
    return attended, gradients


def zeros(model: SplitModel, variables: Variables, images: Array) -> Weights:
    """Give zeros of the shapes of the weights of each block."""
    known = split.attention.check(model, variables, images)
    shapes = jax.eval_shape(known.run, variables, images).weights
    return tuple(jnp.zeros(each.shape, each.dtype) for each in shapes)
