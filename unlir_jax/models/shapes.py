"""Shapes of a network's variables, without computing or tracing what they do."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax import tree
from unlir_jax.models.layers import Convolution
from unlir_jax.types import Module, PyTree


@functools.lru_cache(maxsize=16)
def shapes(module: Module, image_size: int) -> Mapping[str, PyTree]:
    """Give the shapes of a module's variables by path.

    What convolutions and norms compute is left out: tracing it takes five times longer
    than all the rest of loading.
    """
    one = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)

    # The key is made inside, where it is no program to be compiled.
    def init(images: jax.Array) -> PyTree:
        with nn.intercept_methods(_instead):
            return module.init(jax.random.key(0), images)

    return tree.flatten(jax.eval_shape(init, one))


def _instead(
    proceed: Callable[..., Any],
    given: tuple,
    named: dict,
    context: nn.module.InterceptorContext,
) -> Any:
    module = context.module
    if context.method_name != "__call__":
        return proceed(*given, **named)
    if type(module) is Convolution:
        return _convolve(module, given[0])
    if type(module) is nn.BatchNorm:
        return _normalize(module, *given)
    return proceed(*given, **named)


def _convolve(module: Convolution, images: jax.Array) -> jax.Array:
    batch, *sides, channels = images.shape
    kernel = (module.size, module.size, channels // module.groups, module.filters)
    module.put_variable("params", "kernel", jnp.zeros(kernel))
    if module.bias:
        module.put_variable("params", "bias", jnp.zeros(module.filters))
    rows, columns = (-(-side // module.stride) for side in sides)
    return jnp.zeros((batch, rows, columns, module.filters), images.dtype)


def _normalize(module: nn.BatchNorm, images: jax.Array) -> jax.Array:
    for kind, names in (
        ("params", ("scale", "bias")),
        ("batch_stats", ("mean", "var")),
    ):
        for name in names:
            module.put_variable(kind, name, jnp.zeros(images.shape[-1]))
    return images
