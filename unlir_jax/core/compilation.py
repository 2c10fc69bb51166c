"""Ways around what XLA's compiler for CPUs does to numbers (jaxlib 0.12.0.1).

What ends in a reduction over places becomes one "ynn_fusion" there, with all that leads
to it. Two things are wrong inside of one, as findings/ shows without this library: in
bfloat16 a residual block or two convolutions with ReLUs give memory that nobody wrote,
and a maximum of NaN and a number is the number.
"""

import jax
import jax.numpy as jnp

from unlir_jax.types import Array


def separate[Values](values: Values) -> Values:
    """Compile what follows apart from what these arrays are made of, on CPU.

    The numbers are the same. On accelerators, where nothing is wrong, the compiler may
    still merge both halves.

    Args:
        values: An array, or a tree of them.
    """
    if jax.default_backend() != "cpu":
        return values
    return jax.lax.optimization_barrier(values)


def largest(values: Array, axis: tuple[int, ...], keepdims: bool = False) -> jax.Array:
    """Take the largest of values along axes; NaN where one of them is NaN."""
    found = jnp.max(values, axis=axis, keepdims=keepdims)
    lost = jnp.any(jnp.isnan(values), axis=axis, keepdims=keepdims)
    return jnp.where(lost, jnp.nan, found)
