"""Linear layers of a Linen network, each with the function that it is of its kernel.

A layer is a module whose own parameters are a `kernel`, and a `bias` or none, such as
`nn.Conv` and `nn.Dense`. Batch normalisation that follows one belongs to it: its factor
goes to the kernel, and its shift to the bias.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.types import Images, Logits, Module, PyTree, Variables

Run = Callable[[Variables, Images], Logits]


class Linear(NamedTuple):
    """Describe one call of a linear layer.

    Attributes:
        path: Path of the module.
        place: Number of the layer, as they are called, from 0.
        inputs: What it is called with.
        output: What it gives.
        kernel: Its kernel, the outputs last.
        bias: Its bias; zeros where it has none.
        apply: `(kernel, inputs) -> output` without a bias.
    """

    path: str
    place: int
    inputs: jax.Array
    output: jax.Array
    kernel: jax.Array
    bias: jax.Array
    apply: Callable[[jax.Array, jax.Array], jax.Array]

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution."""
        return self.kernel.ndim == 4 and self.inputs.ndim == 4


def identity(inputs: jax.Array, output: jax.Array) -> jax.Array:
    """Give an output as a constant multiple of the inputs, entry by entry."""
    known = inputs != 0
    ratio = jnp.where(known, output / jnp.where(known, inputs, 1), 0)
    path = inputs * jax.lax.stop_gradient(ratio)
    return jax.lax.stop_gradient(output - path) + path


def normalizes(module: Module, args: Any, kwargs: Any) -> bool:
    """Tell whether a module is a LayerNorm over the channels of each token."""
    if not isinstance(module, nn.LayerNorm) or kwargs or len(args) != 1:
        return False
    return module.reduction_axes == -1 and module.feature_axes == -1


def steady_norm(module: Module, args: Any, kwargs: Any) -> jax.Array | None:
    """Give what a LayerNorm does, if it is one, with a scale that is constant."""
    if not normalizes(module, args, kwargs):
        return None
    tokens = args[0]
    centred = tokens - jnp.mean(tokens, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    found = centred * jax.lax.stop_gradient(jax.lax.rsqrt(variance + module.epsilon))
    own = module.variables.get("params", {})
    shape = (1,) * (tokens.ndim - 1) + (-1,)
    if "scale" in own:
        found = found * own["scale"].reshape(shape)
    return found + own["bias"].reshape(shape) if "bias" in own else found


def replaced(
    run: Run,
    replace: Callable[[Linear], jax.Array],
    others: Callable[..., PyTree | None] | None = None,
) -> Run:
    """Make a network whose linear layers are replaced.

    Args:
        run: `(variables, images) -> logits`, not compiled, see `SplitModel.run`.
        replace: Function from a layer to what takes the place of its output.
        others: `(module, call, args, kwargs) -> output or None` for further modules;
            None leaves a module as it is.
    """

    def changed(variables: Variables, images: Images) -> Logits:
        state = _State()

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
            module = context.module
            if context.method_name != "__call__" or state.busy:
                return call(*args, **kwargs)
            if others is not None:
                found = others(module, call, args, kwargs)
                if found is not None:
                    return found
            if isinstance(module, nn.BatchNorm):
                return _norm(state, replace, module, call, args, kwargs)
            if _is_linear(module):
                return _linear(state, replace, module, call, args, kwargs)
            return call(*args, **kwargs)

        with nn.intercept_methods(intercept):
            return run(variables, images)

    return changed


class _State:
    """Hold what is known between the calls of one run."""

    def __init__(self) -> None:
        self.busy = False
        self.count = 0
        self.last: Linear | None = None
        self.given: PyTree = None


def _is_linear(module: Module) -> bool:
    own = module.variables.get("params", {})
    kernel = own.get("kernel") if set(own) <= {"kernel", "bias"} else None
    return kernel is not None and hasattr(kernel, "ndim")


def _linear(
    state: _State, replace: Any, module: Module, call: Any, args: Any, kwargs: Any
) -> PyTree:
    own = module.variables["params"]
    kernel = jnp.asarray(own["kernel"])
    inputs, *rest = args
    alone = module.clone(parent=None)

    def apply(kernel: jax.Array, inputs: jax.Array) -> jax.Array:
        params = {"kernel": kernel}
        if "bias" in own:
            params["bias"] = jnp.zeros_like(own["bias"])
        before, state.busy = state.busy, True
        try:
            return alone.apply({"params": params}, inputs, *rest, **kwargs)
        finally:
            state.busy = before

    output = call(*args, **kwargs)
    bias = own.get("bias")
    if bias is None:
        bias = jnp.zeros(output.shape[-1:], output.dtype)
    path = "/".join(module.path)
    layer = Linear(path, state.count, inputs, output, kernel, jnp.asarray(bias), apply)
    state.count += 1
    state.last, state.given = layer, replace(layer)
    return state.given


def _norm(
    state: _State, replace: Any, module: Module, call: Any, args: Any, kwargs: Any
) -> PyTree:
    """Replace a norm, together with the layer before it where there is one."""
    output = call(*args, **kwargs)
    layer = state.last
    if layer is None or args[0] is not state.given:
        return identity(args[0], output)
    own, known = module.variables.get("params", {}), module.variables["batch_stats"]
    mean, variance = known["mean"], known["var"]
    scale = own.get("scale", jnp.ones_like(mean))
    shift = own.get("bias", jnp.zeros_like(mean))
    factor = scale * jax.lax.rsqrt(variance + module.epsilon)
    wide = factor.reshape((1,) * (layer.kernel.ndim - 1) + (-1,))
    merged = layer._replace(
        path="/".join(module.path),
        output=output,
        kernel=layer.kernel * wide,
        bias=(layer.bias - mean) * factor + shift,
    )
    state.last, state.given = None, replace(merged)
    return state.given
