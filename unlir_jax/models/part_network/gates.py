"""Gates between parts and classes, open or shut: fixed, or learnt."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from unlir_jax.types import Array


def block_assignment(parts: int, classes: int) -> jax.Array:
    """Give each class as many parts, in order: `[parts, classes]` of 0 and 1.

    Raises:
        ValueError: `parts` is no positive multiple of `classes`.
    """
    if classes < 1 or parts < 1 or parts % classes:
        raise ValueError(f"`parts`={parts}; expected a multiple of classes={classes}.")
    return jnp.repeat(jnp.eye(classes), parts // classes, axis=0)


def binary_penalty(gates: Array, temperature: float | Array = 1.0) -> jax.Array:
    """Compute the mean of V (1 - V), V = sigmoid(gates / temperature).

    The binary constraint of DP-Net, a reconstruction.

    Returns:
        A number in [0, 1/4]: 0 where all gates are wide open or shut, 1/4 at 0.
    """
    scaled = wide(gates) / positive(temperature)
    # 1 - V would lose its digits where V is near 1.
    return jnp.mean(jax.nn.sigmoid(scaled) * jax.nn.sigmoid(-scaled))


def binarise(gates: Array, temperature: float | Array = 1.0) -> jax.Array:
    """Give 1 above 0, else 0, with the derivative of sigmoid(gates / temperature).

    The straight-through estimator, Bengio et al., arXiv 1308.3432; a temperature that
    falls from step to step anneals it.
    """
    gates = wide(gates)
    soft = jax.nn.sigmoid(gates / positive(temperature))
    return (gates > 0).astype(soft.dtype) + (soft - jax.lax.stop_gradient(soft))


def positive(temperature: float | Array) -> float | Array:
    """Refuse a temperature that is not above 0, where its value is known."""
    if not isinstance(temperature, Tracer) and not np.all(temperature > 0):
        raise ValueError(f"`temperature`={temperature}; expected more than 0.")
    return temperature


def wide(values: Array) -> jax.Array:
    """Give values in float32 or more."""
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
