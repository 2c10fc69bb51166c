"""XCiT: El-Nouby et al., XCiT: Cross-Covariance Image Transformers, NeurIPS 2021.

Attention is between channels, over all places; two last layers read the grid by a class
token, as CaiT's. DINO trained some without a classifier, whose logits are that token.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.models import backbone, class_attention, layers, transformer
from unlir_jax.models.class_attention import EPSILON
from unlir_jax.models.layers import Style
from unlir_jax.types import Array
from unlir_jax.weights import layouts, token_names
from unlir_jax.weights.layouts import Prefixes

WAVES = 32
"""Number of sines and cosines of the positions of rows, and of columns."""
LONGEST = 10_000.0
"""By how much the frequency of the last wave is less than that of the first."""


class Patches(nn.Module):
    """Halve the sides of images until patches are cells, by convolutions and norms.

    Submodules `conv0` …, and `activation0` … between.
    """

    width: int
    size: int
    style: Style = Style()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        count = self.size.bit_length() - 1
        for index in range(count):
            if index:
                images = transformer.Gelu(name=f"activation{index - 1}")(images)
            width = self.width >> (count - 1 - index)
            halve = layers.ConvNorm(width, 3, 2, style=self.style, name=f"conv{index}")
            images = halve(images, train)
        return images


class ChannelAttention(nn.Module):
    """Mix the channels of a head by their covariance over all cells (Eq. 3).

    Submodules `query`, `key`, `value` and `output`, and `temperature` for each head.
    """

    heads: int
    style: Style = Style()

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        width, style = maps.shape[-1], self.style
        shape = len(maps), -1, self.heads, width // self.heads
        query, key, value = (
            transformer.dense(width, style, name)(maps).reshape(shape)
            for name in ("query", "key", "value")
        )
        temperature = self.param("temperature", nn.initializers.ones, (self.heads,))
        query, key = (_unit(each) for each in (query, key))
        precision = style.precision
        scores = jnp.einsum("bnhq,bnhk->bhqk", query, key, precision=precision)
        wide = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        wide = wide * temperature.astype(wide.dtype).reshape(1, -1, 1, 1)
        weights = jax.nn.softmax(wide, axis=-1).astype(value.dtype)
        mixed = jnp.einsum("bhqk,bnhk->bnhq", weights, value, precision=precision)
        return transformer.dense(width, style, "output")(mixed.reshape(maps.shape))


def _unit(values: jax.Array) -> jax.Array:
    """Divide channels by their length over all cells, `[batch, cells, heads, …]`."""
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    squares = jnp.sum(wide**2, axis=1, keepdims=True)
    # The root of zero has no derivative.
    known = squares > 0
    length = jnp.where(known, jnp.sqrt(jnp.where(known, squares, 1)), 0)
    return (wide / jnp.maximum(length, 1e-12)).astype(values.dtype)


class Local(nn.Module):
    """Mix neighbours by two depthwise convolutions, with GELU and a norm between.

    Submodules `depthwise1`, `activation`, `norm` and `depthwise2`. The norm is of a
    batch, and does not follow a convolution, so that none folds it.
    """

    style: Style = Style()

    @nn.compact
    def __call__(self, maps: jax.Array, train: bool = False) -> jax.Array:
        width, style = maps.shape[-1], self.style
        depthwise = {"groups": width, "bias": True, "style": style}
        inner = layers.Convolution(width, 3, **depthwise, name="depthwise1")(maps)
        inner = transformer.Gelu(name="activation")(inner)
        inner = nn.BatchNorm(
            use_running_average=not train,
            epsilon=style.epsilon,
            momentum=style.momentum,
            dtype=style.dtype,
            axis_name=style.axis_name if train else None,
            name="norm",
        )(inner)
        return layers.Convolution(width, 3, **depthwise, name="depthwise2")(inner)


class Block(nn.Module):
    """Add channel attention, local mixing and a perceptron to the maps.

    Each stands behind a norm and before a scale: `norm1`, `attention`, `scale1`,
    `norm3`, `local`, `scale3`, `norm2`, `mlp` and `scale2`, in this order.
    """

    heads: int
    inner: int
    scale: float
    style: Style = Style()

    @nn.compact
    def __call__(self, maps: jax.Array, train: bool = False) -> jax.Array:
        style = self.style
        attention = ChannelAttention(self.heads, style, name="attention")
        mlp = transformer.Mlp(self.inner, style=style, name="mlp")
        local = functools.partial(Local(style, name="local"), train=train)
        for number, mix in ((1, attention), (3, local), (2, mlp)):
            normed = transformer.norm(style, EPSILON, f"norm{number}")(maps)
            scale = transformer.LayerScale(self.scale, name=f"scale{number}")
            maps = maps + scale(mix(normed))
        return maps


class ClassBlock(nn.Module):
    """Read the grid by the class token, behind a norm; a perceptron sees that token.

    Other tokens are added to themselves behind each norm, with the factors of the first
    layer scale. With `norms_all` the second norm is of all tokens. Submodules `norm1`,
    `attention`, `scale1`, `norm2`, `mlp` and `scale2`.
    """

    heads: int
    inner: int
    scale: float
    norms_all: bool = True
    style: Style = Style()

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        style, scale = self.style, self.scale
        normed = transformer.norm(style, EPSILON, "norm1")(tokens)
        attend = class_attention.ClassAttention(self.heads, style, name="attention")
        read = jnp.concatenate([attend(normed), normed[:, 1:]], axis=1)
        tokens = tokens + transformer.LayerScale(scale, name="scale1")(read)
        norm = transformer.norm(style, EPSILON, "norm2")
        if self.norms_all:
            first, others = jnp.split(norm(tokens), (1,), axis=1)
        else:
            first, others = norm(tokens[:, :1]), tokens[:, 1:]
        added = transformer.Mlp(self.inner, style=style, name="mlp")(first)
        first = first + transformer.LayerScale(scale, name="scale2")(added)
        return jnp.concatenate([first, others + others], axis=1)


class XCiT(class_attention.LateClassToken):
    """Classify images in [0, 1]; see `LateClassToken` for the other attributes.

    Submodules `patches`, `position`, `block0` …, `class_block0` …, `norm` and
    `classifier`, and the parameter `class_token`.

    Attributes:
        norms_all: Whether class blocks norm all tokens twice.
    """

    norms_all: bool = True

    def setup(self) -> None:
        self.patches = Patches(self.width, self.patch_size, self.style)
        self.position = transformer.dense(self.width, self.style, "position")
        super().setup()

    @nn.nowrap
    def block(self, name: str) -> nn.Module:
        return Block(self.heads, self.inner, self.scale, self.style, name=name)

    @nn.nowrap
    def class_block(self, name: str) -> nn.Module:
        sizes = self.heads, self.inner, self.scale
        return ClassBlock(*sizes, self.norms_all, self.style, name=name)

    @nn.nowrap
    def leading_at(self, layer: str) -> int | None:
        """Count the tokens before the grid at a layer; None where there are maps."""
        return super().leading_at(layer) or None

    def start(self, images: Array, train: bool = False) -> jax.Array:
        """Compute maps of patches, with their positions.

        Raises:
            ValueError: Patches are no power of 2 from 8 to 16.
        """
        if self.patch_size not in (8, 16):
            raise ValueError(f"`patch_size`={self.patch_size}; expected 8 or 16.")
        maps = self.patches(self.standardize(images), train)
        rows, columns = maps.shape[1:3]
        return maps + self.position(jnp.asarray(waves(rows, columns), maps.dtype))[None]

    def step(self, index: int, maps: jax.Array, train: bool = False) -> jax.Array:
        """Apply a block to maps."""
        return self.blocks[index](maps, train)


def waves(rows: int, columns: int) -> np.ndarray:
    """Give sines and cosines of each place, `[rows, columns, 2 * WAVES]`.

    Sides go from 0, which is before the first place, to 2 π at the last one, whatever
    their number. Sines and cosines alternate, rows come before columns.
    """
    frequencies = LONGEST ** -(np.arange(WAVES) // 2 * 2 / WAVES)
    found = []
    for count in (rows, columns):
        places = np.arange(1, count + 1) / (count + 1e-6) * 2 * np.pi
        angles = places[:, None] * frequencies
        even = np.arange(WAVES) % 2 == 0
        found.append(np.where(even, np.sin(angles), np.cos(angles)))
    shape = rows, columns, WAVES
    along = found[0][:, None], found[1][None]
    return np.concatenate([np.broadcast_to(each, shape) for each in along], axis=-1)


_CLASS_BLOCK = {
    "norm1": "norm1",
    "attention/query": "attn.q",
    "attention/key": "attn.k",
    "attention/value": "attn.v",
    "attention/output": "attn.proj",
    "scale1/factor": "gamma1",
    "norm2": "norm2",
    "mlp/expand": "mlp.fc1",
    "mlp/contract": "mlp.fc2",
    "scale2/factor": "gamma2",
}
_BLOCK = _CLASS_BLOCK | {
    "attention/temperature": "attn.temperature",
    "norm3": "norm3",
    "local/depthwise1": "local_mp.conv1",
    "local/norm": "local_mp.bn",
    "local/depthwise2": "local_mp.conv2",
    "scale3/factor": "gamma3",
}


def tables(module: XCiT) -> dict[str, Prefixes]:
    """Name the layers as timm does, and as the official code and DINO do."""
    both = ("blocks", _BLOCK), ("cls_attn_blocks", _CLASS_BLOCK)
    found = class_attention.block_names(module, *both)
    found |= {"class_token": "cls_token", "norm": "norm", "classifier": "head"}
    for index in range(module.patch_size.bit_length() - 1):
        place = f"patch_embed.proj.{2 * index}"
        found |= layouts.pair(f"patches/conv{index}", f"{place}.0", f"{place}.1")
    return {
        "timm": found | {"position": "pos_embed.token_projection"},
        "official": found | {"position": "pos_embeder.token_projection"},
    }


def parameters(module: XCiT) -> int:
    """Count the parameters of a network."""
    width, inner = module.width, module.inner
    # Two norms, four dense layers of the attention, the perceptron, and two scales.
    block = 4 * width + 4 * width * (width + 1)
    block += 2 * width * inner + inner + width + 2 * width
    # A norm, two convolutions and the norm between, a scale, and the temperatures.
    local = 2 * width + 20 * width + 2 * width + width + module.heads
    found = (module.depth + module.class_depth) * block + module.depth * local
    narrow, count = 3, module.patch_size.bit_length() - 1
    for index in range(count):
        wide = width >> (count - 1 - index)
        found += 9 * narrow * wide + 2 * wide
        narrow = wide
    found += (2 * WAVES + 1) * width + width
    return found + 2 * width + (width + 1) * module.num_classes


def network(
    width: int,
    depth: int,
    heads: int,
    patch_size: int,
    image_size: int = 224,
    **attributes: Any,
) -> backbone.Network:
    """Describe an XCiT, see `XCiT`."""
    classes = attributes.pop("num_classes", 1000)
    sizes = {"width": width, "depth": depth, "heads": heads, "inner": 4 * width}
    sizes |= {"patch_size": patch_size, "scale": 1.0 if depth < 24 else 1e-5}
    build = functools.partial(XCiT, **{**sizes, **attributes})
    module = build(num_classes=classes)
    return backbone.Network(
        build,
        f"block{module.depth - 1}",
        parameters(module),
        tables(module),
        class_attention.aliases(module, "cls_attn_blocks"),
        image_size=image_size,
        crop=1.0,
        classes=classes,
        interpolation="bicubic",
        spelt=token_names.spelt,
    )


for _size, _width, _depth, _heads in (
    ("nano", 128, 12, 4),
    ("tiny", 192, 12, 4),
    ("small", 384, 12, 8),
    ("tiny", 192, 24, 4),
    ("small", 384, 24, 8),
    ("medium", 512, 24, 8),
    ("large", 768, 24, 16),
):
    _sizes = _width, _depth, _heads
    for _patch in (16, 8):
        for _side in (224, 384):
            backbone.register(
                f"xcit_{_size}_{_depth}_p{_patch}_{_side}",
                network(*_sizes, _patch, _side, norms_all=_size != "nano"),
            )
        if (_size, _depth) in (("small", 12), ("medium", 24)):
            backbone.register(
                f"xcit_{_size}_{_depth}_p{_patch}_224_dino",
                network(*_sizes, _patch, num_classes=0),
            )
