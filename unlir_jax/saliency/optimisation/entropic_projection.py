"""The combination of maps that comes nearest to a wanted map.

Entropic projection: Csiszár, *I-divergence geometry of probability distributions and
minimization problems*, Annals of Probability 3 (1975).
"""

from typing import Any

import jax
import jax.numpy as jnp

LONGEST = 2.0
"""By how much a step of Newton may change the logarithm of a weight."""


def nearest(
    stack: jax.Array,
    logarithms: jax.Array,
    target: jax.Array,
    *,
    softness: float = 1e-2,
    iterations: int = 8,
) -> jax.Array:
    """Change positive weights of maps until their sum comes near a target.

    Minimises `KL(w | w0) + |A w - t|^2 / (2 softness)` over `w > 0`. The minimum has
    the form `w = w0 exp(A' v)` with one number in `v` for each cell, however many maps
    there are. Newton's method finds it; no network is run.

    Args:
        stack: The maps `A`, `[batch, cells, filters]`.
        logarithms: Logarithms of the weights `w0`, `[batch, filters]`.
        target: `t`, `[batch, cells]`.
        softness: How far from the target the result may stay; more than 0.
        iterations: Number of Newton steps.

    Returns:
        Logarithms of the new weights, `[batch, filters]`.

    Note:
        Only the directions that maps span count: where there are fewer filters than
        cells, both sides are turned into that space first (`A = Q R`), which changes
        nothing but the number of unknowns.
    """
    stack, target = _reduce(stack, target)
    highest = jax.lax.Precision.HIGHEST
    identity = jnp.eye(stack.shape[1], dtype=stack.dtype)[None]

    def advance(
        _: Any, state: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        unknowns, changed = state
        weights = jnp.exp(changed)
        found = jnp.einsum("bck,bk->bc", stack, weights, precision=highest)
        residual = target - found - softness * unknowns
        weighted = stack * weights[:, None]
        curvature = jnp.einsum("bck,bdk->bcd", weighted, stack, precision=highest)
        # More than softness alone where rounding needs it; the minimum is the same.
        trace = jnp.trace(curvature, axis1=1, axis2=2)[:, None, None]
        ridge = softness + 8 * jnp.finfo(stack.dtype).eps * trace
        factor = jax.scipy.linalg.cho_factor(curvature + ridge * identity)
        step = jax.scipy.linalg.cho_solve(factor, residual[..., None])[..., 0]
        change = jnp.einsum("bck,bc->bk", stack, step, precision=highest)
        longest = jnp.max(jnp.abs(change), axis=1, keepdims=True)
        share = jnp.minimum(1.0, LONGEST / jnp.maximum(longest, LONGEST))
        return unknowns + share * step, changed + share * change

    start = jnp.zeros_like(target), logarithms
    return jax.lax.fori_loop(0, iterations, advance, start)[1]


def _reduce(stack: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Turn cells into as many coordinates as there are filters, if those are fewer."""
    if stack.shape[1] <= stack.shape[2]:
        return stack, target
    turn, reduced = jnp.linalg.qr(stack)
    return reduced, jnp.einsum("bcr,bc->br", turn, target, precision="highest")
