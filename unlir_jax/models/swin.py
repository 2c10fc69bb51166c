"""Swin: Liu et al., Swin Transformer using Shifted Windows, ICCV 2021.

A grid that no windows fill is padded by zeros at its end, behind the norm. timm shifts
the grid before, and torchvision and transformers after.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.models import backbone, channels, layers, swin_names, transformer
from unlir_jax.models.layers import Style
from unlir_jax.types import Array
from unlir_jax.weights import token_names

EPSILON = 1e-5
MASKED = -100.0
"""Added to the scores of places that a shift brought together."""


class WindowAttention(nn.Module):
    """Attend within windows, with a bias for each difference of places.

    Submodules `query`, `key`, `value`, `weights` and `output`, and the parameter
    `table`, `[(2 window - 1)², heads]`.
    """

    heads: int
    window: int
    style: Style = Style()
    head_width: int | None = None

    @nn.compact
    def __call__(self, windows: jax.Array, mask: np.ndarray | None) -> jax.Array:
        """Map `[batch x windows, places, channels]`, added a mask of each window."""
        count, places, width = windows.shape
        style, size = self.style, self.head_width or width // self.heads
        shape, inner = (count, places, self.heads, size), self.heads * size
        query, key, value = (
            transformer.dense(inner, style, name)(windows).reshape(shape)
            for name in ("query", "key", "value")
        )
        normal = nn.initializers.normal(0.02)
        differences = (2 * self.window - 1) ** 2
        table = self.param("table", normal, (differences, self.heads))
        bias = table.astype(windows.dtype)[_differences(self.window)]
        query = query * jnp.asarray(shape[-1] ** -0.5, query.dtype)
        scores = jnp.einsum("bqhc,bkhc->bhqk", query, key, precision=style.precision)
        scores = scores + bias.transpose(2, 0, 1)[None]
        if mask is not None:
            apart = jnp.asarray(mask, scores.dtype)[None, :, None]
            scores = scores.reshape(-1, len(mask), *scores.shape[1:]) + apart
            scores = scores.reshape(count, *scores.shape[2:])
        weights = transformer.AttentionWeights(name="weights")(scores)
        mixed = jnp.einsum("bhqk,bkhc->bqhc", weights, value, precision=style.precision)
        mixed = mixed.reshape(count, places, inner)
        return transformer.dense(width, style, "output")(mixed)


class Block(nn.Module):
    """Add attention in windows, and a perceptron, to the maps, each behind a norm."""

    heads: int
    inner: int
    window: int
    shifted: bool
    shifts_first: bool
    style: Style = Style()
    head_width: int | None = None

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        normed = transformer.norm(self.style, EPSILON, "norm1")(maps)
        maps = maps + self._attend(normed)
        normed = transformer.norm(self.style, EPSILON, "norm2")(maps)
        return maps + transformer.Mlp(self.inner, style=self.style, name="mlp")(normed)

    def _attend(self, maps: jax.Array) -> jax.Array:
        size, (rows, columns) = self.window, maps.shape[1:3]
        grid = tuple(-(-side // size) * size for side in (rows, columns))
        # One window along an axis sees all of it already.
        seen = (rows, columns) if self.shifts_first else grid
        shift = tuple(size // 2 if self.shifted and side > size else 0 for side in seen)
        margins = ((0, 0), (0, grid[0] - rows), (0, grid[1] - columns), (0, 0))
        back = (-shift[0], -shift[1])
        if self.shifts_first:
            maps = jnp.pad(jnp.roll(maps, back, (1, 2)), margins)
        else:
            maps = jnp.roll(jnp.pad(maps, margins), back, (1, 2))
        windows = _partition(maps, size)
        mask = _mask(grid, size, shift) if any(shift) else None
        own = self.heads, size, self.style, self.head_width
        attention = WindowAttention(*own, name="attention")
        maps = _join(attention(windows, mask), grid, size)
        if self.shifts_first:
            return jnp.roll(maps[:, :rows, :columns], shift, (1, 2))
        return jnp.roll(maps, shift, (1, 2))[:, :rows, :columns]


class Stage(nn.Module):
    """Merge neighbours, but in the first stage, and apply blocks.

    Submodules `norm` and `reduce`, but in the first stage, and `block0` ….
    """

    width: int
    depth: int
    heads: int
    ratio: int
    window: int
    first: bool
    shifts_first: bool
    style: Style = Style()
    widths: tuple[int | None, ...] | None = None

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        if not self.first:
            maps = transformer.norm(self.style, EPSILON, "norm")(_neighbours(maps))
            maps = transformer.dense(self.width, self.style, "reduce", bias=False)(maps)
        widths = self.widths or (None,) * 2 * self.depth
        for index in range(self.depth):
            heads, inner = widths[2 * index : 2 * index + 2]
            maps = Block(
                *(heads or self.heads, inner or self.ratio * self.width, self.window),
                *(index % 2 > 0, self.shifts_first, self.style),
                self.width // self.heads,
                name=f"block{index}",
            )(maps)
        return maps


class Swin(nn.Module):
    """Classify images in [0, 1].

    Submodules `patches`, `norm0`, `stage0` … `stage3`, `norm` and `classifier`.

    Attributes:
        width: Channels of the first stage; each next one has twice as many.
        depths: Number of blocks of each stage.
        heads: Number of attention heads of each stage.
        window: Side of a window.
        patch_size: Side of a patch in pixels.
        ratio: Width of the perceptrons by that of the maps.
        shifts_first: Whether a grid is shifted before it is padded.
        num_classes: Number of classes; 0 for the pooled vector itself.
        mean: Colour in [0, 1] that the network sees as zero.
        deviation: By which colours are divided.
        pooling: Way in which the head pools.
        widths: Heads and neurons of each block in turn; None for the usual ones.
        style: What all layers have in common.
    """

    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    patch_size: int = 4
    ratio: int = 4
    shifts_first: bool = True
    num_classes: int = 1000
    mean: tuple[float, ...] = backbone.IMAGENET_MEAN
    deviation: tuple[float, ...] = backbone.IMAGENET_DEVIATION
    pooling: str = "average"
    widths: tuple[int, ...] | None = None
    style: Style = Style()

    leading = 0
    signed = True

    def setup(self) -> None:
        style = self.style
        self.standardize = layers.Standardize(self.mean, self.deviation, style)
        self.patches = transformer.Patches(self.width, self.patch_size, style=style)
        self.norm0 = transformer.norm(style, EPSILON, "norm0")
        each = iter(layers.each_width(self.widths, 2 * sum(self.depths)))
        self.stages = [
            Stage(
                *(self.width * 2**index, depth, heads, self.ratio, self.window),
                *(not index, self.shifts_first, style),
                tuple(itertools.islice(each, 2 * depth)),
                name=f"stage{index}",
            )
            for index, (depth, heads) in enumerate(
                zip(self.depths, self.heads, strict=True)
            )
        ]
        self.norm = transformer.norm(style, EPSILON, "norm")
        if self.num_classes:
            self.classifier = nn.Dense(self.num_classes, precision=style.precision)

    @nn.nowrap
    def channel_graph(self) -> channels.Graph:
        """Say which channels may go: heads and neurons; maps keep their width."""
        each = iter(layers.each_width(self.widths, 2 * sum(self.depths)))
        inner, tied, units = [], [], ["patches"]
        for index, (depth, heads) in enumerate(
            zip(self.depths, self.heads, strict=True)
        ):
            width = self.width * 2**index
            added = [f"stage{index}/reduce" if index else "patches"]
            units += added if index else []
            for place in range(depth):
                block = f"stage{index}/block{place}"
                sizes = next(each) or heads, width // heads
                neurons = next(each) or self.ratio * width
                attended, widened = transformer.groups(block, *sizes, neurons)
                table = (f"{block}/attention/table",)
                inner += [attended._replace(tables=table), widened]
                added += [attended.reader, widened.reader]
                units.append(block)
            tied.append(tuple(added))
        dense = ("classifier",) if self.num_classes else ()
        return channels.Graph(
            *(type(self).__name__, tuple(inner), tuple(tied), dense, True),
            *((("patches", "norm0"),), (*units, "norm")),
        )

    def features(self, images: Array, train: bool = False) -> jax.Array:
        """Compute the maps of the last norm, `[batch, rows, columns, channels]`."""
        del train
        maps = self.norm0(self.patches(self.standardize(images)))
        for stage in self.stages:
            maps = stage(maps)
        return self.norm(maps)

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Pool and classify maps."""
        del train
        pooled = layers.pool(maps, self.pooling)
        return self.classifier(pooled) if self.num_classes else pooled

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        return self.head(self.features(images, train), train)


def _partition(maps: jax.Array, size: int) -> jax.Array:
    batch, rows, columns, width = maps.shape
    cells = maps.reshape(batch, rows // size, size, columns // size, size, width)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size, width)


def _join(windows: jax.Array, grid: tuple[int, ...], size: int) -> jax.Array:
    rows, columns = grid
    shape = -1, rows // size, columns // size, size, size, windows.shape[-1]
    cells = windows.reshape(shape).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(-1, rows, columns, windows.shape[-1])


def _neighbours(maps: jax.Array) -> jax.Array:
    """Put the channels of 2 x 2 cells in one, column by column."""
    batch, rows, columns, width = maps.shape
    maps = jnp.pad(maps, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))
    cells = maps.reshape(batch, -(-rows // 2), 2, -(-columns // 2), 2, width)
    cells = cells.transpose(0, 1, 3, 4, 2, 5)
    return cells.reshape(*cells.shape[:3], 4 * width)


def _differences(size: int) -> np.ndarray:
    """Number the differences between all places of a window."""
    places = np.stack(np.meshgrid(*[np.arange(size)] * 2, indexing="ij"), -1)
    places = places.reshape(-1, 2)
    apart = places[:, None] - places[None] + size - 1
    return apart[..., 0] * (2 * size - 1) + apart[..., 1]


def _mask(grid: tuple[int, ...], size: int, shift: tuple[int, ...]) -> np.ndarray:
    """Give what is added to scores of places that were no neighbours."""
    regions = []
    for side, by in zip(grid, shift, strict=True):
        place = np.arange(side)
        regions.append((place >= side - size).astype(int) + (place >= side - by) * by)
    # Where nothing is shifted along an axis, all are of one region.
    regions = [r if by else r * 0 for r, by in zip(regions, shift, strict=True)]
    numbers = regions[0][:, None] * 1_000 + regions[1][None]
    windows = numbers.reshape(grid[0] // size, size, grid[1] // size, size)
    windows = windows.transpose(0, 2, 1, 3).reshape(-1, size * size)
    return np.where(windows[:, :, None] == windows[:, None], 0.0, MASKED)


def network(
    width: int,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    window: int = 7,
    image_size: int = 224,
    crop: float = 0.9,
    **attributes: int,
) -> backbone.Network:
    """Describe a Swin, see `Swin`."""
    build = functools.partial(Swin, width, depths, heads, window, **attributes)
    tables = swin_names.tables(depths)
    others = [name for name in tables if name.startswith(("torchvision", "transf"))]
    return backbone.Network(
        build,
        "norm",
        parameters(build()),
        tables,
        swin_names.aliases(depths),
        stages=tuple(f"stage{n}" for n in range(len(depths))),
        image_size=image_size,
        crop=crop,
        interpolation="bicubic",
        spelt=token_names.spelt,
        attributes={name: {"shifts_first": False} for name in others},
    )


def parameters(module: Swin) -> int:
    """Count the parameters of a network."""
    width, places = module.width, (2 * module.window - 1) ** 2
    found = (3 * module.patch_size**2 + 3) * width
    for index, (depth, heads) in enumerate(
        zip(module.depths, module.heads, strict=True)
    ):
        if index:
            # The norm of four neighbours, and the layer that halves their channels.
            found += 8 * width + 8 * width**2
            width *= 2
        attention = 4 * width**2 + 4 * width + places * heads
        perceptron = (2 * module.ratio * width + module.ratio + 1) * width
        found += depth * (attention + perceptron + 4 * width)
    return found + 2 * width + (width + 1) * module.num_classes


for _size, _width, _blocks, _heads in (
    ("tiny", 96, 6, 3),
    ("small", 96, 18, 3),
    ("base", 128, 18, 4),
    ("large", 192, 18, 6),
):
    for _window, _pixels in ((7, 224), (12, 384)):
        if _window == 7 or _size in ("base", "large"):
            backbone.register(
                f"swin_{_size}_patch4_window{_window}_{_pixels}",
                network(
                    *(_width, (2, 2, _blocks, 2)),
                    tuple(_heads * 2**power for power in range(4)),
                    *(_window, _pixels, 0.9 if _window == 7 else 1.0),
                ),
            )
