"""Penalties of filter weights, and gates that are open, shut, and still learn."""

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.types import Array, RandomKey

Penalty = Literal["towards_one", "l1", "l0"]

TEMPERATURE, STRETCH = 2 / 3, (-0.1, 1.1)


def penalty(weights: Mapping[str, Array], kind: Penalty = "towards_one") -> jax.Array:
    """Sum up what weights of filters cost.

    - `towards_one`: squared distances from 1, where the network is the frozen one.
    - `l1`: absolute values, which makes weights small and filters redundant.
    - `l0`: how many hard concrete gates are expected to be open, of `weights` that are
      logits; Louizos et al., ICLR 2018 (arXiv 1712.01312), equation 12.

    Raises:
        ValueError: The kind is unknown, or `l1` is asked of shifts, which say nothing
            when they are 1, not 0.
    """
    functions: dict[str, Callable[[jax.Array], jax.Array]] = {
        "towards_one": lambda leaf: jnp.square(leaf - 1),
        "l1": jnp.abs,
        "l0": lambda leaf: jax.nn.sigmoid(
            leaf - TEMPERATURE * np.log(-STRETCH[0] / STRETCH[1])
        ),
    }
    if kind not in functions:
        raise ValueError(f"`kind`={kind!r}; expected one of {', '.join(functions)}.")
    shifts = [name for name in weights if name.endswith("/shift")]
    if kind == "l1" and shifts:
        raise ValueError(
            f"`kind`='l1' of {shifts[0]!r}, which would be shifted by -1; expected "
            "'towards_one', or weights that multiply."
        )
    sums = [jnp.sum(functions[kind](jnp.asarray(leaf))) for leaf in weights.values()]
    return jnp.sum(jnp.stack(sums)) if sums else jnp.zeros(())


def hard_concrete(
    logits: Mapping[str, Array], *, key: RandomKey | None = None
) -> dict[str, jax.Array]:
    """Draw gates in [0, 1] that are often exactly 0 or 1, yet have a derivative.

    Louizos et al., Learning Sparse Neural Networks through L0 Regularization, ICLR 2018
    (arXiv 1712.01312), equations 10 and 11, and 13 without `key`. To be used in place
    of weights, or multiplied with them.

    Args:
        logits: As weights; from 2.4 on a gate is 1 exactly without a key, so logits of
            3 start from the frozen network.
        key: Random key of the gates; None for the gates that are used after training.
    """
    keys = (
        jax.random.split(key, len(logits)) if key is not None else [None] * len(logits)
    )
    return {
        name: _hard_concrete(jnp.asarray(leaf), own)
        for (name, leaf), own in zip(sorted(logits.items()), keys, strict=True)
    }


def _hard_concrete(logits: jax.Array, key: RandomKey | None) -> jax.Array:
    low, high = STRETCH
    if key is None:
        soft = jax.nn.sigmoid(logits)
    else:
        tiny = float(jnp.finfo(logits.dtype).eps)
        drawn = jax.random.uniform(
            key, logits.shape, logits.dtype, minval=tiny, maxval=1 - tiny
        )
        soft = jax.nn.sigmoid((jax.scipy.special.logit(drawn) + logits) / TEMPERATURE)
    return jnp.clip(soft * (high - low) + low, 0, 1)
