"""Rows of attention as maps, and its derivatives."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

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


def first_row(weights: jax.Array, leading: int) -> jax.Array:
    """Give the weight of each query in what is classified, `[batch, queries]`.

    It is the class token, or where no token leads, the mean of all.
    """
    batch, _, queries, _ = weights.shape
    if leading:
        return jnp.zeros((batch, queries), weights.dtype).at[:, 0].set(1)
    return jnp.full((batch, queries), 1 / queries, weights.dtype)


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
