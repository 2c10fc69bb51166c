"""Look at, or change, what the layers of a network are given."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models.layers import Convolution
from unlir_jax.models.transformer import AttentionWeights, Patches
from unlir_jax.types import Images, PyTree, Variables


def with_inputs(
    module: nn.Module,
    variables: Variables,
    images: Images,
    functions: Mapping[str, Callable[[jax.Array], jax.Array]],
    method: str | None = None,
) -> PyTree:
    """Compute logits with a function on what some layers are given.

    Args:
        module: Module Linen module.
        variables: Its variables.
        images: What it takes.
        functions: For the path of a layer, what becomes of its input.
        method: Method of the module, such as `features`, in place of the logits.
    """

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        function = functions.get("/".join(context.module.path))
        if function is None or context.method_name != "__call__":
            return call(*args, **kwargs)
        return call(function(args[0]), *args[1:], **kwargs)

    with nn.intercept_methods(intercept):
        return module.apply(dict(variables), images, method=method)


def multiply_adds(module: nn.Module, image_size: int) -> dict[str, int]:
    """Count the products of each convolution, dense layer and attention, for one image.

    What scores and mixes tokens is counted at `weights`, next to the layer that reads
    it. Norms, activations, pooling and what a decision by parts adds are not counted,
    as is usual.

    Args:
        module: A network of ours.
        image_size: Side in pixels of the square image.
    """
    found: dict[str, int] = {}
    pairs: dict[str, int] = {}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        layer, path = context.module, "/".join(context.module.path)
        if context.method_name != "__call__":
            return output
        if isinstance(layer, Convolution):
            incoming = args[0].shape[-1] // layer.groups
            found[path] = layer.size**2 * incoming * math.prod(output.shape[1:])
        elif isinstance(layer, Patches):
            incoming = args[0].shape[-1] * layer.size**2
            found[path] = incoming * math.prod(output.shape[1:])
        elif isinstance(layer, AttentionWeights):
            pairs[path] = math.prod(output.shape) // output.shape[1]
        elif isinstance(layer, nn.Dense):
            # One image can be many windows.
            found[path] = args[0].shape[-1] * math.prod(output.shape)
            weights = f"{path.rpartition('/')[0]}/weights"
            if weights in pairs and path.endswith("/output"):
                found[weights] = 2 * pairs[weights] * args[0].shape[-1]
        return output

    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    with nn.intercept_methods(intercept):
        jax.eval_shape(module.init, jax.random.key(0), images)
    return found
