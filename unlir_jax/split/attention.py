"""Attention of a transformer in Linen or NNX: its weights, and derivatives by them.

What gives weights `[batch, heads, queries, keys]` is a module with
`gives_attention = True`, or flax's own `MultiHeadDotProductAttention` of Linen and
`MultiHeadAttention` of NNX, as they are. In Linen a module with `gives_tokens = True`
gives the tokens behind a block, which it takes first.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend import core

from unlir_jax.split import functions, taps
from unlir_jax.split import tokens as layouts
from unlir_jax.types import (
    Attended,
    Attention,
    Images,
    Module,
    PyTree,
    SplitModel,
    Variables,
)

_ATTEND = "attention_fn"
Note = Callable[[jax.Array], jax.Array]
"""Keep weights, and give what takes their place."""


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
        kept: jax.Array | None = None,
    ) -> Attended:
        weights: list[jax.Array] = []
        tokens: list[jax.Array] = []
        note = _noting(weights, added, kept)

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
            module = context.module
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            if getattr(module, "gives_attention", False):
                return note(call(*args, **kwargs))
            if isinstance(module, nn.MultiHeadDotProductAttention):
                with _attending(module, nn.dot_product_attention, note):
                    return call(*args, **kwargs)
            if getattr(module, "gives_tokens", False):
                if apart:
                    args = jax.lax.stop_gradient(args[0]), *args[1:]
                tokens.append(call(*args, **kwargs))
                return tokens[-1]
            return call(*args, **kwargs)

        with nn.intercept_methods(intercept):
            logits = apply(variables, images)
        return Attended(logits, tuple(weights), tuple(tokens))

    def classify(
        variables: Variables, tokens: jax.Array, added: Sequence[jax.Array] = ()
    ) -> jax.Array:
        note = _noting([], added)

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> PyTree:
            found = call(*args, **kwargs)
            gives = getattr(context.module, "gives_attention", False)
            return note(found) if gives else found

        with nn.intercept_methods(intercept):
            return apply(variables, tokens, method=read)

    return Attention(run, leading, classify if read else None)


def changed(
    module: Module, call: Any, args: Any, kwargs: Any, change: Note
) -> PyTree | None:
    """Call a Linen module that gives attention, whose weights are changed.

    Args:
        module: A module that was intercepted.
        call: Its call.
        args: What it is called with.
        kwargs: What else it is called with.
        change: Function of the weights.

    Returns:
        What the module gives, or None if it gives no attention.
    """
    if getattr(module, "gives_attention", False):
        return change(call(*args, **kwargs))
    if isinstance(module, nn.MultiHeadDotProductAttention):
        if module.attention_fn is nn.dot_product_attention:
            with _attending(module, nn.dot_product_attention, change):
                return call(*args, **kwargs)
    return None


def of_nnx(
    call: Callable[[Variables, Images, Callable[[Module], None]], PyTree], leading: int
) -> Attention:
    """Make what runs an NNX network and gives its attention.

    Args:
        call: `(variables, images, prepare) -> logits` of a copy of the network, which
            `prepare` changes before.
        leading: Number of tokens before the grid.
    """

    def run(
        variables: Variables,
        images: Images,
        added: Sequence[jax.Array] = (),
        apart: bool = False,
        kept: jax.Array | None = None,
    ) -> Attended:
        del apart  # No module of NNX says that it is a block.
        weights: list[jax.Array] = []
        note = _noting(weights, added, kept)

        with contextlib.ExitStack() as stack:

            def prepare(network: Module) -> None:
                for module in _unique(network):
                    stack.enter_context(_watched(module, note))

            logits = call(variables, images, prepare)
        return Attended(logits, tuple(weights), ())

    return Attention(run, leading)


def filled(model: SplitModel, tokens: layouts.Layout | None) -> SplitModel:
    """Add what reads the attention of a Linen network whose tokens are laid out."""
    if tokens is None or model.run is None:
        return model
    leading = layouts.check(tokens).leading
    return model._replace(attention=of_linen(model.run, leading))


def filled_nnx(
    model: SplitModel,
    tokens: layouts.Layout | None,
    run: Callable[..., PyTree],
    output: functions.Output,
) -> SplitModel:
    """Add what reads the attention of an NNX network whose tokens are laid out."""
    if tokens is None:
        return model

    def call(variables: Variables, images: Images, prepare: Any) -> PyTree:
        return functions.chosen(run(variables, images, prepare), output)

    return model._replace(attention=of_nnx(call, layouts.check(tokens).leading))


def check(model: SplitModel, variables: Variables, images: Images) -> Attention:
    """Give the attention of a network, all of whose blocks see all tokens.

    Behind the blocks may stand layers that read the tokens, see `readers`.

    Raises:
        ValueError: It has none that is known, or blocks of different tokens.
    """
    known = model.attention
    found = () if known is None else _weights(known, variables, images)
    if known is None or not found:
        raise ValueError(
            "`model` is a network without attention that is known; expected a vision "
            "transformer of `unlir models`, or one of Linen or NNX that is cut with "
            "`tokens=`, see the guide on attention."
        )
    sizes = ", ".join(dict.fromkeys(f"{s[2]} x {s[3]}" for s in found))
    blocks = found[: len(found) - readers(found)]
    if not blocks:
        raise ValueError(
            "`model` mixes its tokens by no attention between them: only its last "
            f"layers, of one query, have weights of tokens ({sizes}); expected a "
            "network whose blocks have, or another explainer, such as grad_cam."
        )
    batch, _, queries, keys = blocks[0]
    alike = queries == keys and len({s[2:] for s in blocks}) == 1
    more = [each[3] - keys for each in found[len(blocks) :]]
    if batch != len(images) or not alike or not (more == [0] or {*more} <= {1}):
        raise ValueError(
            "`model` is hierarchical: its blocks have weights between different tokens "
            f"({sizes}), which cannot be multiplied; expected a network whose blocks "
            "all see the same tokens, or another explainer, such as grad_cam."
        )
    return known


def readers(shapes: Sequence[Sequence[int]]) -> int:
    """Count the last layers that read all tokens by one query.

    They are attention pooling, which sees the tokens of the blocks, or class attention,
    which sees a class token before them.

    Args:
        shapes: Shapes of all weights, `[..., queries, keys]`.
    """
    count = 0
    for *_, queries, keys in reversed(shapes):
        if queries != 1 or keys == 1:
            break
        count += 1
    return count


def _weights(
    known: Attention, variables: Variables, images: Images
) -> list[tuple[int, ...]]:
    attended = jax.eval_shape(known.run, variables, images)
    return [each.shape for each in attended.weights]


def _noting(
    weights: list[jax.Array],
    added: Sequence[jax.Array],
    kept: jax.Array | None = None,
) -> Note:
    """Make what keeps weights, and adds to them what is differentiated by.

    Keys that are not `kept` lose their weight to the others, as if they were not there.
    """
    outside = core.get_opaque_trace_state(convention="nnx")

    def note(found: jax.Array) -> jax.Array:
        if core.get_opaque_trace_state(convention="nnx") != outside:
            raise ValueError(
                "`model` has attention under a transformation, such as scan, remat or "
                "vmap, out of which no weights can be taken; expected blocks that are "
                "called one by one."
            )
        if kept is not None:
            found = found * kept[:, None, None].astype(found.dtype)
            total = jnp.sum(found, axis=-1, keepdims=True)
            # What becomes of a token that is not kept makes no difference.
            found = found / jnp.where(kept[:, None, :, None], total, 1)
        found = found + added[len(weights)] if added else found
        weights.append(found)
        return found

    return note


@contextlib.contextmanager
def _attending(module: Module, usual: Any, note: Note) -> Iterator[None]:
    """Have a module of flax, if it attends in the usual way, give its weights."""
    if getattr(module, _ATTEND) is not usual:
        yield
        return
    object.__setattr__(module, _ATTEND, _noted(usual, note))
    try:
        yield
    finally:
        object.__setattr__(module, _ATTEND, usual)


def _noted(usual: Callable[..., jax.Array], note: Note) -> Callable[..., jax.Array]:
    """Make what attends as flax does, by weights that are noted."""
    weights_of = nn.dot_product_attention_weights
    if usual is not nn.dot_product_attention:
        from flax.nnx.nn import attention

        weights_of = attention.dot_product_attention_weights

    @functools.wraps(usual)
    def attend(
        query: jax.Array, key: jax.Array, value: jax.Array, **settings: Any
    ) -> jax.Array:
        named = {"qk_attn_weights_einsum": "einsum"}
        mix = settings.pop("attn_weights_value_einsum", None) or jnp.einsum
        settings = {named.get(name, name): each for name, each in settings.items()}
        weights = note(weights_of(query, key, **settings))
        precision = settings.get("precision")
        with_precision = {} if precision is None else {"precision": precision}
        value = value.astype(weights.dtype)
        return mix("...hqk,...khd->...qhd", weights, value, **with_precision)

    return attend


def _unique(network: Module) -> list[Module]:
    """List the modules of an NNX network, each once."""
    found = [taps.find(network, path) for path in taps.paths(network)]
    return [*{id(module): module for module in found}.values()]


@contextlib.contextmanager
def _watched(module: Module, note: Note) -> Iterator[None]:
    """Have a module of NNX give its weights, if it has some."""
    from flax import nnx

    if getattr(module, "gives_attention", False):
        with taps.tapped(module, lambda own, args, kwargs: note(own(*args, **kwargs))):
            yield
    elif isinstance(module, nnx.MultiHeadAttention):
        with _attending(module, nnx.dot_product_attention, note):
            yield
    else:
        yield
