"""Attention of a Linen transformer: its weights, and derivatives by them.

A module with `gives_attention = True` returns weights `[batch, heads, queries, keys]`,
and one with `gives_tokens = True` the tokens behind a block, which it takes first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn

from unlir_jax.types import Attended, Attention, Images, PyTree, SplitModel, Variables


def of_linen(apply: Callable[..., PyTree], leading: int, read: str = "") -> Attention:
    """Make what runs a Linen network and gives its attention.

    Args:
        apply: `(variables, images) -> logits`; with `method=` another of its methods.
        leading: Number of tokens before the grid.
        read: Name of the method that classifies tokens by their mean; "" for none.
    """

    def run(
        variables: Variables,
        images: Images,
        added: Sequence[jax.Array] = (),
        apart: bool = False,
    ) -> Attended:
        weights: list[jax.Array] = []
        tokens: list[jax.Array] = []

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
            module = context.module
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            if getattr(module, "gives_attention", False):
                found = call(*args, **kwargs)
                found = found + added[len(weights)] if added else found
                weights.append(found)
                return found
            if getattr(module, "gives_tokens", False):
                if apart:
                    args = jax.lax.stop_gradient(args[0]), *args[1:]
                tokens.append(call(*args, **kwargs))
                return tokens[-1]
            return call(*args, **kwargs)

        with nn.intercept_methods(intercept):
            logits = apply(variables, images)
        return Attended(logits, tuple(weights), tuple(tokens))

    def classify(variables: Variables, tokens: jax.Array) -> jax.Array:
        return apply(variables, tokens, method=read)

    return Attention(run, leading, classify if read else None)


def check(model: SplitModel, variables: Variables, images: Images) -> Attention:
    """Give the attention of a network, all of whose blocks see all tokens.

    Raises:
        ValueError: It has none that is known, or blocks of different tokens.
    """
    known = model.attention
    found = () if known is None else _weights(known, variables, images)
    if known is None or not found:
        raise ValueError(
            "`model` is a network without attention that is known; expected a vision "
            "transformer of `unlir models`, or a Linen network whose modules say "
            "`gives_attention = True`."
        )
    batch, _, queries, keys = found[0]
    if batch != len(images) or queries != keys or len({s[2:] for s in found}) > 1:
        sizes = ", ".join(dict.fromkeys(f"{s[2]} x {s[3]}" for s in found))
        raise ValueError(
            "`model` is hierarchical: its blocks have weights between different tokens "
            f"({sizes}), which cannot be multiplied; expected a network whose blocks "
            "all see the same tokens, or another explainer, such as grad_cam."
        )
    return known


def _weights(
    known: Attention, variables: Variables, images: Images
) -> list[tuple[int, ...]]:
    attended = jax.eval_shape(known.run, variables, images)
    return [each.shape for each in attended.weights]
