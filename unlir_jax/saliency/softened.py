"""Softened networks, whose ReLUs are softplus functions."""

import functools
import math
from collections.abc import Callable

import jax

from unlir_jax.core import memoize
from unlir_jax.saliency import rectifiers
from unlir_jax.split import functions
from unlir_jax.types import PyTree, SplitModel


@memoize.remember
def softened(model: SplitModel, *, sharpness: float = 20.0) -> SplitModel:
    """Put `softplus(b x) / b` in the place of each ReLU, with `b` the sharpness.

    The gradient of a ReLU network is constant on pieces, so that a map made of it does
    not change with the image. That of the softened network does. A ReLU6 becomes the
    softplus of `x` minus that of `x - 6`. All other functions stay.

    Args:
        model: The cut network.
        sharpness: At 0, a softplus is `log(2) / sharpness` above a ReLU.

    Returns:
        A cut network for the same variables, which is cut at the same place.

    Raises:
        ValueError: `sharpness` is no positive number. When called: a ReLU in a loop.

    References:
        Dombrowski et al., *Explanations can be manipulated and geometry is to blame*,
        NeurIPS 2019, Section 3.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency, split
        >>> model = split.from_functions(
        ...     lambda _, x: jax.nn.relu(x - 0.5), lambda _, x: x.mean((1, 2))
        ... )
        >>> soft = saliency.softened(model, sharpness=10.0)
        >>> image = jnp.full((1, 2, 2, 3), 0.5)
        >>> round(float(split.whole(soft)({}, image)[0, 0]), 4)  # log(2) / 10
        0.0693
    """
    if not 0 < sharpness < math.inf:
        raise ValueError(f"`sharpness`={sharpness}; expected a positive number.")
    features, head = (_soft(half, sharpness) for half in (model.features, model.head))
    return functions.cut(features, head, model.mean)


def _soft(function: Callable[..., PyTree], sharpness: float) -> Callable[..., PyTree]:
    clip = functools.partial(_clipped, sharpness)

    def called(*arguments: PyTree) -> PyTree:
        jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
        if not rectifiers.contains(jaxpr, [None] * len(jaxpr.invars)):
            return function(*arguments)
        return rectifiers.replace(function, clip, *arguments)(*arguments)

    return called


def _clipped(sharpness: float, values: jax.Array, low: float, high: float) -> jax.Array:
    """Clip values to an interval that may be half open, without a kink."""

    def above(bound: float) -> jax.Array:
        return jax.nn.softplus(sharpness * (values - bound)) / sharpness

    bottom = above(low) + low if low > -math.inf else values
    return bottom - above(high) if high < math.inf else bottom
