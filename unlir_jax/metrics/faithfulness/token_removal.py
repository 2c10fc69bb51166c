"""Removing tokens from a transformer, instead of painting over their patches.

Nothing attends to a token that is removed, so all others are what a pass on them alone
gives, at their own positions. No colour has to stand for what is missing.
"""

import functools
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax import maps, split
from unlir_jax.core import memoize
from unlir_jax.types import Images, Logits, PyTree, Saliency, SplitModel, Variables

DROP: Final = "drop"
Removal = Literal["black", "mean", "blur", "noise", "drop"]
"""What becomes of pixels that are removed: another value, or nothing at all."""

TOLERANCE = 1e-4
"""Share of the largest logit by which those of two images without grid may differ."""


class Kept(NamedTuple):
    """Hold images, and which cells of their grids stay, `[batch, rows, columns]`."""

    images: jax.Array
    cells: jax.Array


def ways(
    model: SplitModel, dropped: bool
) -> tuple[Callable[..., Logits], Callable[..., PyTree]]:
    """Give what shows the chosen part of images, and the network that sees that.

    Args:
        model: The cut network.
        dropped: Whether tokens are taken away, instead of pixels painted over.

    Returns:
        `(variables, shown) -> logits` and
        `(images, chosen, backgrounds, *place) -> shown`, where `backgrounds[place]` is
        behind the pixels that are not chosen.
    """
    return (network(model), _keep) if dropped else (split.whole(model), _paint)


def _paint(
    images: jax.Array, chosen: jax.Array, backgrounds: jax.Array, *place: jax.Array
) -> jax.Array:
    return jnp.where(chosen[..., None], images, backgrounds[place])


def _keep(
    images: jax.Array, chosen: jax.Array, backgrounds: jax.Array, *place: jax.Array
) -> Kept:
    del backgrounds, place
    return Kept(images, chosen)


@memoize.remember
def network(model: SplitModel) -> Callable[[Variables, Kept], Logits]:
    """Give `(variables, kept) -> logits`, compiled; NaN as in `split.whole`."""

    @jax.jit
    def run(variables: Variables, kept: Kept) -> Logits:
        known = split.attention.check(model, variables, kept.images)
        cells = kept.cells.reshape(len(kept.images), -1)
        stay = jnp.pad(cells, ((0, 0), (known.leading, 0)), constant_values=True)
        logits = known.run(variables, kept.images, (), False, stay).logits
        return logits * jnp.where(split.meaningless(logits), jnp.nan, 1).astype(
            logits.dtype
        )

    return run


def grid(model: SplitModel, variables: Variables, images: Images) -> tuple[int, int]:
    """Give rows and columns of the tokens that can be removed.

    Raises:
        ValueError: The network has no attention that is known, is hierarchical, or has
            no token that stays.
    """
    known = split.attention.check(model, variables, images)
    if not known.leading:
        raise ValueError(
            "`model` has no token before its grid, so nothing is left to classify "
            f"where `baseline`={DROP!r} removes all of it; expected a network with a "
            "class token, or another baseline, such as 'black'."
        )
    rows, columns = jax.eval_shape(model.features, variables, images).maps.shape[1:3]
    return rows, columns


@functools.partial(jax.jit, static_argnums=(1, 2))
def cell_means(
    saliency: Saliency, size: tuple[int, ...], cells: tuple[int, int]
) -> jax.Array:
    """Average maps over the cells of a grid: `[batch, *cells]`; flat ones are zeros.

    A map of the grid's own size is taken as it is, others are enlarged first.
    """
    found = saliency
    if found.shape[1:] != cells:
        enlarged = maps.resize(saliency, size)
        (rows, columns), (high, wide) = (
            cells,
            (size[0] // cells[0], size[1] // cells[1]),
        )
        enlarged = enlarged[:, : rows * high, : columns * wide]
        found = enlarged.reshape(-1, rows, high, columns, wide).mean((2, 4))
    return jnp.where(maps.is_flat(found)[:, None, None], 0, found)


def check(
    model: SplitModel, variables: Variables, images: Images, cells: tuple[int, int]
) -> jax.Array:
    """Tell whether the grid is seen by attention alone, so that nothing of it is left.

    Two images without their grids are the same to such a network.

    Raises:
        ValueError: It is not, and images are known.
    """
    first = jnp.asarray(images[:1])
    none = jnp.zeros((2, *cells), bool)
    two = network(model)(variables, Kept(jnp.concatenate([first, 1 - first]), none))
    most = jnp.max(jnp.abs(two))
    complete = jnp.max(jnp.abs(two[0] - two[1])) <= TOLERANCE * most
    if split.traced(complete) or not bool(jnp.isfinite(most)) or bool(complete):
        return complete
    raise ValueError(
        "`model` sees its grid by more than the attention that is known, such as the "
        f"mean of all tokens, so `baseline`={DROP!r} would not remove tokens; expected "
        "a network that classifies its class token, or another baseline, such as "
        "'black'."
    )
