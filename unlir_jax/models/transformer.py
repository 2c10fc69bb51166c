"""The bricks of transformers: attention whose weights have a name, and its company.

Every norm computes its variance in two passes: tokens of large norm, as DINOv2 has
them, leave no digits to the faster formula.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.models import channels, registers
from unlir_jax.models.layers import Style

Activation = Literal["erf", "tanh", "quick"]


def norm(style: Style, epsilon: float, name: str) -> nn.LayerNorm:
    """Make a norm over the channels of each token."""
    return nn.LayerNorm(epsilon, dtype=style.dtype, use_fast_variance=False, name=name)


def dense(width: int, style: Style, name: str, *, bias: bool = True) -> nn.Dense:
    """Make a linear layer."""
    precision = style.precision
    return nn.Dense(width, bias, dtype=style.dtype, precision=precision, name=name)


class Gelu(nn.Module):
    """Apply GELU: by the error function, by tanh, or x · sigmoid(1.702 x)."""

    kind: Activation = "erf"

    def __call__(self, values: jax.Array) -> jax.Array:
        if self.kind == "quick":
            return values * jax.nn.sigmoid(1.702 * values)
        if self.kind == "tanh" or jnp.finfo(values.dtype).bits < 32:
            return nn.gelu(values, approximate=self.kind == "tanh")
        return gelu(values)


@jax.jit
def gelu(values: jax.Array) -> jax.Array:
    """Apply GELU by `erf`, which XLA computes faster on CPUs than JAX's `erfc`.

    Far below 0 the sum keeps fewer digits, as in PyTorch: float32 or more is expected.
    """
    half = jnp.asarray(0.5, values.dtype)
    return half * values * (1 + jax.lax.erf(values * jnp.sqrt(half)))


class AttentionWeights(nn.Module):
    """Turn scores into weights, `[batch, heads, queries, keys]`; each row adds up to 1.

    A module of its own, so that explainers read the weights and differentiate by them.
    """

    gives_attention = True

    def __call__(self, scores: jax.Array) -> jax.Array:
        wide = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        return jax.nn.softmax(wide, axis=-1).astype(scores.dtype)


class TalkingWeights(nn.Module):
    """Turn scores into weights, mixing heads before and after the softmax.

    Shazeer et al., Talking-Heads Attention, 2020. What comes out are the weights of the
    values: they may be negative, and rows need not add up to 1. Submodules `before` and
    `after`.
    """

    style: Style = Style()

    gives_attention = True

    @nn.compact
    def __call__(self, scores: jax.Array) -> jax.Array:
        scores = self._mixed(scores, "before")
        wide = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        weights = jax.nn.softmax(wide, axis=-1).astype(scores.dtype)
        return self._mixed(weights, "after")

    def _mixed(self, values: jax.Array, name: str) -> jax.Array:
        """Mix heads, `[batch, heads, queries, keys]`."""
        last = jnp.moveaxis(values, 1, -1)
        return jnp.moveaxis(dense(values.shape[1], self.style, name)(last), -1, 1)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    weigh: Callable[[jax.Array], jax.Array],
    precision: str,
) -> jax.Array:
    """Mix values by the weights of scaled products of queries and keys.

    Args:
        query: `[batch, queries, heads, channels]`.
        key: `[batch, keys, heads, channels]`, as is `value`.
        value: What is mixed.
        weigh: Turns scores `[batch, heads, queries, keys]` into weights.
        precision: Precision of the products.

    Returns:
        `[batch, queries, heads x channels]`.
    """
    query = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    # Heads first: XLA multiplies such arrays faster on CPUs.
    query, key, value = (jnp.swapaxes(each, 1, 2) for each in (query, key, value))
    scores = jnp.einsum("bhqc,bhkc->bhqk", query, key, precision=precision)
    weights = weigh(scores)
    mixed = jnp.einsum("bhqk,bhkc->bhqc", weights, value, precision=precision)
    mixed = jnp.swapaxes(mixed, 1, 2)
    return mixed.reshape(*mixed.shape[:2], -1)


class Attention(nn.Module):
    """Attend from each token to all: Vaswani et al., NeurIPS 2017.

    Submodules `query`, `key`, `value`, `weights` and `output`, and with `normalized`
    `query_norm` and `key_norm`, a norm for the channels of a head. A head has
    `head_width` channels, by default its share of the tokens'.
    """

    heads: int
    bias: bool = True
    normalized: bool = False
    epsilon: float = 1e-6
    style: Style = Style()
    talking: bool = False
    head_width: int | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        batch, count, width = tokens.shape
        shape = batch, count, self.heads, self.head_width or width // self.heads
        inner = self.heads * shape[-1]
        query, key, value = (
            dense(inner, self.style, name, bias=self.bias)(tokens).reshape(shape)
            for name in ("query", "key", "value")
        )
        if self.normalized:
            query = norm(self.style, self.epsilon, "query_norm")(query)
            key = norm(self.style, self.epsilon, "key_norm")(key)
        if self.talking:
            weigh = TalkingWeights(self.style, name="weights")
        else:
            weigh = AttentionWeights(name="weights")
        mixed = attend(query, key, value, weigh, self.style.precision)
        return dense(width, self.style, "output")(mixed)


class Mlp(nn.Module):
    """Widen each token, activate, and narrow it; `gated` multiplies by SiLU of a gate.

    Submodules `expand`, `activation` and `contract`, with a gate `gate` as well. What
    `moved` says of its neurons goes to other tokens, see `registers`.
    """

    inner: int
    activation: Activation = "erf"
    gated: bool = False
    style: Style = Style()
    moved: registers.Moved = registers.NOTHING

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        width, style = tokens.shape[-1], self.style
        inner = dense(self.inner, style, "expand")(tokens)
        if self.gated:
            gate = dense(self.inner, style, "gate")(tokens)
            inner = jax.nn.silu(gate) * inner
        else:
            inner = Gelu(self.activation, name="activation")(inner)
        inner = registers.move(inner, self.moved)
        return dense(width, style, "contract")(inner)


class LayerScale(nn.Module):
    """Multiply each channel by a learned factor: Touvron et al., ICCV 2021."""

    start: float = 1e-5

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        fill = nn.initializers.constant(self.start)
        factor = self.param("factor", fill, (tokens.shape[-1],))
        along = (1,) * (tokens.ndim - 1)
        return tokens * factor.astype(tokens.dtype).reshape(*along, -1)


class Block(nn.Module):
    """Add attention and a perceptron to the tokens, each behind a norm.

    Submodules `norm1`, `attention`, `norm2` and `mlp`, with layer scale `scale1` and
    `scale2`.
    """

    heads: int
    inner: int
    bias: bool = True
    normalized: bool = False
    gated: bool = False
    activation: Activation = "erf"
    scale: float | None = None
    epsilon: float = 1e-6
    style: Style = Style()
    talking: bool = False
    moved: registers.Moved = registers.NOTHING
    head_width: int | None = None

    gives_tokens = True

    def setup(self) -> None:
        style, epsilon = self.style, self.epsilon
        self.norm1 = norm(style, epsilon, "norm1")
        sizes = self.heads, self.bias, self.normalized, epsilon
        self.attention = Attention(*sizes, style, self.talking, self.head_width)
        self.norm2 = norm(style, epsilon, "norm2")
        inner = self.inner, self.activation, self.gated, style
        self.mlp = Mlp(*inner, moved=self.moved)
        if self.scale is not None:
            self.scale1, self.scale2 = LayerScale(self.scale), LayerScale(self.scale)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Map tokens `[batch, tokens, channels]`."""
        return self.behind_norm(tokens, self.norm1(tokens))

    def behind_norm(self, tokens: jax.Array, normed: jax.Array) -> jax.Array:
        """Map tokens whose first norm is given, as explainers change it."""
        scaled = self.scale is not None
        added = self.attention(normed)
        tokens = tokens + (self.scale1(added) if scaled else added)
        added = self.mlp(self.norm2(tokens))
        return tokens + (self.scale2(added) if scaled else added)


def groups(
    block: str, heads: int, head_width: int, inner: int, *, gated: bool = False
) -> tuple[channels.Group, channels.Group]:
    """Say which channels of a block may go: whole heads, and neurons.

    Args:
        block: Path of the block, with submodules `attention` and `mlp`.
        heads: Number of its heads.
        head_width: Channels of a head.
        inner: Number of neurons of the perceptron.
        gated: Whether each has a gate.
    """
    query, key, value, output = (
        f"{block}/attention/{name}" for name in ("query", "key", "value", "output")
    )
    expand, gate, contract = (
        f"{block}/mlp/{name}" for name in ("expand", "gate", "contract")
    )
    makers = (expand, gate) if gated else (expand,)
    return (
        channels.Group((value,), output, heads, size=head_width, beside=(query, key)),
        channels.Group(makers, contract, inner),
    )


class Patches(nn.Module):
    """Project square patches: `[batch, rows, columns, channels]`.

    Raises:
        ValueError: The image is smaller than a patch, or no multiple of it.
    """

    width: int
    size: int
    bias: bool = True
    style: Style = Style()

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        batch, height, width, channels = images.shape
        if height % self.size or width % self.size or not height or not width:
            raise ValueError(
                f"`images` have {height} x {width} pixels, which patches of "
                f"{self.size} x {self.size} do not fill; expected multiples of it."
            )
        shape = (self.size, self.size, channels, self.width)
        scale = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
        kernel = self.param("kernel", scale, shape).astype(images.dtype)
        rows, columns = height // self.size, width // self.size
        # A product, since a convolution with its own stride is one, and slower on CPUs.
        cells = images.reshape(batch, rows, self.size, columns, self.size, channels)
        maps = jnp.einsum(
            "bryqxc,yxco->brqo",
            cells,
            kernel,
            precision=self.style.precision,
        )
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.width,))
            maps = maps + bias.astype(maps.dtype).reshape(1, 1, 1, -1)
        return maps


class Tokens(nn.Module):
    """Add positions to a grid, and put learned tokens before it.

    Parameters `position`, of the grid alone, `class_token`, `distillation_token` and
    `register_tokens`. Files whose class token has a position add it to the token.
    """

    class_token: bool
    distilled: bool
    registers: int

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        batch, rows, columns, width = maps.shape
        self._check(rows, columns)
        normal = nn.initializers.normal(0.02)
        position = self.param("position", normal, (1, rows * columns, width))
        grid = maps.reshape(batch, rows * columns, width)
        tokens = [grid + position.astype(maps.dtype)]
        for name, count in (
            ("register_tokens", self.registers),
            ("distillation_token", int(self.distilled)),
            ("class_token", int(self.class_token)),
        ):
            if count:
                learned = self.param(name, normal, (1, count, width))
                shape = batch, count, width
                tokens.insert(0, jnp.broadcast_to(learned.astype(maps.dtype), shape))
        return jnp.concatenate(tokens, axis=1)

    def _check(self, rows: int, columns: int) -> None:
        """Refuse a grid that the positions are not of."""
        if self.is_initializing() or not self.has_variable("params", "position"):
            return
        known = self.get_variable("params", "position").shape[1]
        if rows * columns != known:
            side = math.isqrt(known)
            raise ValueError(
                f"`images` give a grid of {rows} x {columns} patches, but the network "
                f"has positions of {side} x {side}; expected images of its own size, "
                "or `load(…, image_size=N)` for another."
            )


class AttentionPool(nn.Module):
    """Pool tokens by the attention of a learned query, and a perceptron behind it.

    Zhai et al., Scaling Vision Transformers, CVPR 2022, as SigLIP has it: submodules
    `query`, `key`, `value`, `weights`, `output`, `norm` and `mlp`.
    """

    heads: int
    inner: int
    activation: Activation = "erf"
    epsilon: float = 1e-6
    style: Style = Style()

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        batch, count, width = tokens.shape
        style, split = self.style, (self.heads, width // self.heads)
        normal = nn.initializers.normal(width**-0.5)
        latent = self.param("latent", normal, (1, 1, width)).astype(tokens.dtype)
        query = dense(width, style, "query")(latent).reshape(1, 1, *split)
        query = jnp.broadcast_to(query, (batch, *query.shape[1:]))
        key, value = (
            dense(width, style, name)(tokens).reshape(batch, count, *split)
            for name in ("key", "value")
        )
        weigh = AttentionWeights(name="weights")
        mixed = attend(query, key, value, weigh, style.precision)
        pooled = dense(width, style, "output")(mixed)
        added = Mlp(self.inner, self.activation, style=style, name="mlp")(
            norm(style, self.epsilon, "norm")(pooled)
        )
        return (pooled + added)[:, 0]
