"""CaiT: Touvron et al., Going Deeper with Image Transformers, ICCV 2021.

Heads talk to each other before and after the softmax, and two last layers read the grid
by a class token.
"""

import functools
from typing import Any

import jax
from flax import linen as nn

from unlir_jax.models import backbone, class_attention, transformer
from unlir_jax.models.class_attention import EPSILON
from unlir_jax.models.layers import Style
from unlir_jax.types import Array
from unlir_jax.weights import token_names
from unlir_jax.weights.layouts import Prefixes


class ClassBlock(nn.Module):
    """Add class attention and a perceptron to the class token, each behind a norm.

    The other tokens stay. Submodules `norm1`, `attention`, `scale1`, `norm2`, `mlp` and
    `scale2`.
    """

    heads: int
    inner: int
    scale: float
    style: Style = Style()

    gives_tokens = True

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        style, scale = self.style, self.scale
        normed = transformer.norm(style, EPSILON, "norm1")(tokens)
        attend = class_attention.ClassAttention(self.heads, style, name="attention")
        added = transformer.LayerScale(scale, name="scale1")(attend(normed))
        first = tokens[:, :1] + added
        normed = transformer.norm(style, EPSILON, "norm2")(first)
        added = transformer.Mlp(self.inner, style=style, name="mlp")(normed)
        first = first + transformer.LayerScale(scale, name="scale2")(added)
        return tokens.at[:, :1].set(first)


class CaiT(class_attention.LateClassToken):
    """Classify images in [0, 1]; see `LateClassToken` for the attributes.

    Submodules `patches`, `tokens`, `block0` …, `class_block0` …, `norm` and
    `classifier`, and the parameter `class_token`.
    """

    def setup(self) -> None:
        self.patches = transformer.Patches(
            self.width, self.patch_size, style=self.style
        )
        self.tokens = transformer.Tokens(False, False, 0)
        super().setup()

    @nn.nowrap
    def block(self, name: str) -> nn.Module:
        return transformer.Block(
            *(self.heads, self.inner),
            scale=self.scale,
            epsilon=EPSILON,
            style=self.style,
            talking=True,
            name=name,
        )

    @nn.nowrap
    def class_block(self, name: str) -> nn.Module:
        return ClassBlock(self.heads, self.inner, self.scale, self.style, name=name)

    def start(self, images: Array, train: bool = False) -> jax.Array:
        """Compute maps of patches, with their positions."""
        del train
        maps = self.patches(self.standardize(images))
        return self.tokens(maps).reshape(maps.shape)

    def step(self, index: int, maps: jax.Array, train: bool = False) -> jax.Array:
        """Apply a block to maps."""
        del train
        cells = maps.reshape(len(maps), -1, self.width)
        return self.blocks[index](cells).reshape(maps.shape)


_BLOCK = {
    "norm1": "norm1",
    "attention/query": "attn.q",
    "attention/key": "attn.k",
    "attention/value": "attn.v",
    "attention/output": "attn.proj",
    "scale1/factor": "gamma_1",
    "norm2": "norm2",
    "mlp/expand": "mlp.fc1",
    "mlp/contract": "mlp.fc2",
    "scale2/factor": "gamma_2",
}
_TALKING = {
    "attention/weights/before": "attn.proj_l",
    "attention/weights/after": "attn.proj_w",
}


def table(module: CaiT) -> Prefixes:
    """Name the layers as timm and the official code do."""
    both = ("blocks", _BLOCK | _TALKING), ("blocks_token_only", _BLOCK)
    return class_attention.block_names(module, *both) | {
        "patches": "patch_embed.proj",
        "tokens/position": "pos_embed",
        "class_token": "cls_token",
        "norm": "norm",
        "classifier": "head",
    }


def parameters(module: CaiT, image_size: int) -> int:
    """Count the parameters of a network."""
    width, inner, places = module.width, module.inner, image_size // module.patch_size
    # Two norms, four dense layers of the attention, the perceptron, and both scales.
    block = 4 * width + 4 * width * (width + 1)
    block += 2 * width * inner + inner + width + 2 * width
    talking = 2 * module.heads * (module.heads + 1)
    found = (module.depth + module.class_depth) * block + module.depth * talking
    found += (3 * module.patch_size**2 + 1) * width + (places**2 + 1) * width
    return found + 2 * width + (width + 1) * module.num_classes


def network(
    width: int, depth: int, image_size: int, scale: float = 1e-5, **attributes: Any
) -> backbone.Network:
    """Describe a CaiT, see `CaiT`; a head has 48 channels."""
    sizes = {"width": width, "depth": depth, "scale": scale}
    sizes |= {"heads": width // 48, "inner": 4 * width}
    build = functools.partial(CaiT, **{**sizes, **attributes})
    module = build()
    return backbone.Network(
        build,
        f"block{module.depth - 1}",
        parameters(module, image_size),
        {"timm": table(module)},
        class_attention.aliases(module, "blocks_token_only"),
        image_size=image_size,
        crop=1.0,
        interpolation="bicubic",
        spelt=token_names.spelt,
        # No library resizes them; timm's rule is that of its other networks.
        positions=lambda layout, names, file: "antialiased",
    )


for _size, _width, _depth, _sides, _scale in (
    ("xxs24", 192, 24, (224, 384), 1e-5),
    ("xxs36", 192, 36, (224, 384), 1e-5),
    ("xs24", 288, 24, (384,), 1e-5),
    ("s24", 384, 24, (224, 384), 1e-5),
    ("s36", 384, 36, (384,), 1e-6),
    ("m36", 768, 36, (384,), 1e-6),
    ("m48", 768, 48, (448,), 1e-6),
):
    for _side in _sides:
        backbone.register(
            f"cait_{_size}_{_side}", network(_width, _depth, _side, _scale)
        )
