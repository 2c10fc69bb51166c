"""Fold batch normalisation into the convolution before it, exact in eval mode."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.models import layers
from unlir_jax.types import PyTree, Variables


def dissolves(path: str) -> bool:
    """Tell whether folding would change what a module path names.

    A norm is gone afterwards, and a convolution gives what the norm gave.
    """
    return path.rpartition("/")[2] in ("conv", "norm")


def fold_batchnorm(
    module: nn.Module, variables: Variables
) -> tuple[nn.Module, Variables]:
    """Rewrite a backbone of ours without norms.

    With `s = scale / sqrt(variance + epsilon)`, the kernel becomes `kernel * s` and the
    bias `norm's bias + (own bias - mean) * s`. The result computes the same in eval
    mode, moves less memory, and can no longer be trained as before.

    Args:
        module: A backbone from `unlir_jax.models`, with a `style`.
        variables: Its `params` and `batch_stats`.

    Returns:
        The module without those norms and its `{"params": …}`, with the statistics of
        norms that follow no convolution. A module without norms comes back as it is.

    Raises:
        ValueError: The module has no `style`, or the variables lack the statistics.
    """
    style = getattr(module, "style", None)
    if not isinstance(style, layers.Style):
        raise ValueError(
            f"`module` is a {type(module).__name__}; expected a backbone of "
            "unlir_jax.models, whose norms follow their convolutions by construction."
        )
    params, statistics = variables["params"], variables.get("batch_stats", {})
    folded = _fold(params, statistics, style.epsilon)
    module = layers.with_style(module, style._replace(norm=False))
    left = _left(params, statistics)
    return module, {"params": folded} | ({"batch_stats": left} if left else {})


def _left(params: Mapping[str, PyTree], statistics: Mapping[str, PyTree]) -> Any:
    """Give the statistics of norms that follow no convolution, and stay."""
    if "conv" in params:
        return {}
    found = {
        name: _left(params[name], value)
        if any(isinstance(inner, Mapping) for inner in value.values())
        else value
        for name, value in statistics.items()
    }
    return {name: value for name, value in found.items() if value}


def _fold(
    params: Mapping[str, PyTree], statistics: Mapping[str, PyTree], epsilon: float
) -> Any:
    if "conv" not in params or "norm" not in params:
        return {
            name: _fold(value, statistics.get(name, {}), epsilon)
            if isinstance(value, Mapping)
            else value
            for name, value in params.items()
        }
    if "norm" not in statistics:
        raise ValueError(
            "`variables` has a norm without running statistics; expected the "
            "collection `batch_stats` beside `params`."
        )
    norm, running, convolution = params["norm"], statistics["norm"], params["conv"]
    # Each operation on arrays of JAX is a program of its own, to be compiled.
    root = np.sqrt if isinstance(running["var"], np.ndarray) else jnp.sqrt
    scale = norm["scale"] / root(running["var"] + epsilon)
    shift = convolution.get("bias", 0) - running["mean"]
    return {
        "conv": {
            "kernel": convolution["kernel"] * scale.reshape((1, 1, 1, -1)),
            "bias": norm["bias"] + shift * scale,
        }
    }
