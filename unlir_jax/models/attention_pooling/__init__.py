"""Networks that pool by attention: a backbone, a way to pool its maps, a classifier.

The ways to pool are `POOLS`. A network pools by average, maximum or GeM itself, see
`models.layers.POOLS`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlir_jax.core import choices, compilation
from unlir_jax.core.document_types import Document, Record
from unlir_jax.models import drawing, layers

# Importing a way to pool registers it. The order is that of lists.
# isort: off
from unlir_jax.models.attention_pooling import ca_stream as ca_stream
from unlir_jax.models.attention_pooling import simpool as simpool
from unlir_jax.models.attention_pooling import efficient_probing as efficient_probing

# isort: on
from unlir_jax.models.attention_pooling.pool import POOLS, shares
from unlir_jax.types import Array, Features, Module, PyTree, Variables


class AttentionNet(nn.Module):
    """Classify images in [0, 1] by maps that are pooled by attention.

    Submodules `backbone`, `pool` and `classifier`. Its cut is at the last maps, and
    what earlier stages say travels in the context, so that derivatives by the maps pass
    through the attention.

    Attributes:
        backbone: Gives `features(images, train)`; its own head is not used, but for a
            norm behind the pooling, as in ConvNeXt.
        pool: One of `POOLS`, built for the channels.
        num_classes: Number of classes; 0 for the pooled vector itself.
        stages: Paths of the modules in front of which an earlier stage ends.
        cells: Numbers of locations of these stages, and of the last maps, in the images
            that the network is made for.
    """

    backbone: Module
    pool: Module
    num_classes: int
    stages: tuple[str, ...] = ()
    cells: tuple[int, ...] = ()

    def setup(self) -> None:
        if self.num_classes:
            self.classifier = nn.Dense(
                self.num_classes, precision=self.backbone.style.precision
            )

    @property
    def style(self) -> layers.Style:
        """Give the style of the backbone."""
        return self.backbone.style

    @property
    def mean(self) -> tuple[float, ...]:
        """Give the colour that the backbone sees as zero."""
        return self.backbone.mean

    @property
    def looks_at_cells(self) -> bool:
        """Say that the mean of the maps is not enough for the head."""
        return True

    def features(self, images: Array, train: bool = False) -> jax.Array:
        """Compute all that the head looks at, in one array.

        Returns:
            The last maps; where there are earlier stages, all maps side by side,
            `[batch, 1, 1, numbers]`.
        """
        maps, stages = self._maps(images, train)
        if not stages:
            return maps
        flat = [each.reshape((len(maps), -1)) for each in (*stages, maps)]
        return jnp.concatenate(flat, axis=1)[:, None, None]

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Pool and classify what `features` gives, `[batch, num_classes]`.

        Raises:
            ValueError: It is of images of another size than the network is made for.
        """
        del train
        if not self.stages:
            return self._classify(maps, self._begin((), len(maps)))
        *stages, last = self._unpacked(maps)
        return self._classify(last, self._begin(stages, len(maps)))

    def average(self, maps: Array) -> jax.Array:
        """Pool by average the last maps in what `features` gives, `[batch, channels]`.

        Raises:
            ValueError: See `head`.
        """
        last = self._unpacked(maps)[-1] if self.stages else maps
        return layers.pool(last, "average")

    def decide(self, pooled: Array) -> jax.Array:
        """Classify pooled vectors, `[batch, num_classes]`."""
        if hasattr(self.backbone, "normalize_pooled"):
            pooled = self.backbone.normalize_pooled(pooled)
        return self.classifier(pooled) if self.num_classes else jnp.asarray(pooled)

    def last_maps(self, images: Array) -> jax.Array:
        """Compute the last maps alone, `[batch, rows, columns, channels]`."""
        return self._maps(images, False)[0]

    def features_at(self, images: Array) -> Features:
        """Compute the last maps, and what earlier stages give to them as context."""
        maps, stages = self._maps(images, False)
        return Features(maps, self._begin(stages, len(maps)))

    def head_at(self, features: Features | Array) -> jax.Array:
        """Pool and classify what `features_at` gives; maps alone without a context."""
        maps, context = features if isinstance(features, Features) else (features, ())
        return self._classify(maps, context)

    def scores(self, images: Array) -> jax.Array:
        """Score locations before the softmax, `[batch, rows, columns, queries]`."""
        maps, context = self.features_at(images)
        return self.pool.scores(_wide(maps), context)

    def attention(self, images: Array) -> jax.Array:
        """Weigh locations, `[batch, rows, columns, queries]`; each query's sum is 1."""
        return shares(self.scores(images))

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, num_classes]`."""
        maps, stages = self._maps(images, train)
        return self._classify(maps, self._begin(stages, len(maps)))

    @nn.nowrap
    def draw(
        self, generator: np.random.Generator, path: str, leaf: PyTree
    ) -> np.ndarray:
        """Draw one array of the pool at the start, by its path."""
        return self.pool.draw(generator, path.removeprefix(drawing.POOL), leaf)

    def _begin(self, stages: Sequence[Array], size: int) -> tuple[jax.Array, ...]:
        return self.pool.begin([_wide(maps) for maps in stages], size)

    def _classify(self, maps: Array, context: tuple[jax.Array, ...]) -> jax.Array:
        return self.decide(compilation.separate(self.pool(_wide(maps), context)))

    def _maps(self, images: Array, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """Give the last maps, and the maps of earlier stages."""
        seen: dict[str, list[jax.Array]] = {path: [] for path in self.stages}

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            path = "/".join(context.module.path).removeprefix("backbone/")
            if context.method_name == "__call__" and path in seen:
                seen[path].append(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(intercept):
            maps = self.backbone.features(images, train)
        _check_cells(maps.shape, images.shape)
        return maps, [seen[path][0] for path in self.stages]

    def _unpacked(self, packed: Array) -> list[jax.Array]:
        sizes = [n * c for n, c in zip(self.cells, self.pool.channels, strict=True)]
        if packed.shape[-1] != sum(sizes):
            raise ValueError(
                f"`maps` has {packed.shape[-1]} numbers an image; expected {sum(sizes)}"
                ", of images of the size that the network was assembled for."
            )
        ends = np.cumsum(sizes)[:-1].tolist()
        flat = jnp.split(packed[:, 0, 0], ends, axis=1)
        return [
            each.reshape((len(packed), cells, 1, -1))
            for each, cells in zip(flat, self.cells, strict=True)
        ]


def attention(
    module: Module,
) -> Callable[[Variables, Array], jax.Array]:
    """Give the weights by which a network pools.

    Args:
        module: A network that pools by attention.

    Returns:
        `(variables, images) -> [batch, rows, columns, queries]`; the weights of each
        query add up to 1.

    Raises:
        ValueError: It pools in another way.
    """
    if not isinstance(module, AttentionNet):
        raise ValueError(
            f"`module` is a {type(module).__name__}, which does not pool by attention; "
            f"expected a network with one of {', '.join(POOLS)}."
        )

    apply: Any = module.apply

    def weights(variables: Variables, images: Array) -> jax.Array:
        return apply(dict(variables), images, method="attention")

    return weights


def assemble(
    backbone: Module,
    wanted: Document,
    classes: int,
    image_size: int,
    stages: Sequence[str] = (),
) -> AttentionNet:
    """Build a network that pools by attention round a backbone.

    Args:
        backbone: A network of ours.
        wanted: `name`, one of `POOLS`; the attributes of the way to pool; and for
            `ca_stream` also `stages`, the paths of the modules in front of which an
            earlier stage ends, in their order, one by one or joined by +; "auto" for
            the backbone's own; "late" for the last two of them, whose maps are small;
            "" for the variant with one block on the last maps.
        classes: Number of classes.
        image_size: Side in pixels of the images that it is for.
        stages: The backbone's own stages.

    Raises:
        ValueError: There is no such way to pool, stage or attribute, or the last maps
            of such an image have one location.
    """
    chosen = dict(wanted)
    name = chosen.pop("name", "")
    choices.pick(str(name), POOLS, f"`pooling`={name!r}", "expected one of {}")
    streams = POOLS[str(name)] is ca_stream.CrossAttentionStream
    asked: Any = chosen.pop("stages", "auto") if streams else ()
    if asked in ("auto", "late"):
        asked = _own(backbone, stages)[-2 if asked == "late" else 0 :]
    elif isinstance(asked, str):
        asked = list(filter(None, asked.split("+")))
    sizes = _given(backbone, image_size)
    asked = _check_stages(asked, sizes)
    known = _attributes(str(name))
    for option in chosen:
        wrong = f"`attention_pooling.{option}` is no setting of {name!r}"
        choices.pick(option, known, wrong, "expected some of {}")
    shapes = [sizes[path] for path in (*asked, "")]
    _check_cells(sizes[""], (1, image_size, image_size, 3))
    built = cast(Callable[..., Module], POOLS[str(name)])
    pool = built(channels=tuple(shape[-1] for shape in shapes), **chosen)
    pool.check()
    cells = tuple(math.prod(shape[1:3]) for shape in shapes) if asked else ()
    return AttentionNet(backbone, pool, classes, asked, cells)


def specification(module: Module) -> Record:
    """Describe how a network pools so that `assemble` builds it again.

    Returns:
        {} for a network that does not pool by attention.
    """
    if not isinstance(module, AttentionNet):
        return {}
    name = next(name for name, kind in POOLS.items() if type(module.pool) is kind)
    values = {field: getattr(module.pool, field) for field in _attributes(name)}
    streams = isinstance(module.pool, ca_stream.CrossAttentionStream)
    return {"name": name} | ({"stages": module.stages} if streams else {}) | values


def _attributes(name: str) -> tuple[str, ...]:
    fixed = ("channels", "parent", "name")
    fields = dataclasses.fields(POOLS[name])
    return tuple(field.name for field in fields if field.name not in fixed)


def _own(backbone: Module, stages: Sequence[str]) -> Sequence[str]:
    if not stages:
        raise ValueError(
            f"`stages`='auto', but a {type(backbone).__name__} has no stages; expected "
            "'' for one block on the last maps."
        )
    return stages


def _check_stages(
    stages: Sequence[str], sizes: dict[str, tuple[int, ...]]
) -> tuple[str, ...]:
    """Refuse what is given no maps, or not in this order."""
    known = [path for path in sizes if path]
    tops = [path for path in known if "/" not in path]
    for path in stages:
        wrong = f"`stages` has {path!r}, which is no module that is given maps"
        choices.pick(path, known, wrong, f"expected some of {', '.join(tops)}")
    if sorted(stages, key=known.index) != [*stages] or len({*stages}) < len(stages):
        raise ValueError(
            f"`stages`={tuple(stages)}; expected each once, in the order of the layers."
        )
    return tuple(stages)


def _check_cells(maps: Sequence[int], images: Sequence[int]) -> None:
    rows, columns = maps[1:3]
    if rows * columns < 2:
        raise ValueError(
            f"`images` of {images[1]} x {images[2]} pixels leave last maps of {rows} x "
            f"{columns} locations; expected larger images, for attention weighs two "
            "locations or more."
        )


def _given(backbone: Module, image_size: int) -> dict[str, tuple[int, ...]]:
    """List the shapes of the maps that modules are given, the last maps' as ""."""
    seen: dict[str, tuple[int, ...]] = {}
    often: set[str] = set()

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path and args:
            often.update([path] if path in seen else [])
            seen.setdefault(path, tuple(np.shape(args[0])))
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    with nn.intercept_methods(intercept):
        last = jax.eval_shape(
            lambda images: backbone.init_with_output(
                jax.random.key(0), images, method="features"
            )[0],
            images,
        )
    inner = {p: s for p, s in seen.items() if len(s) == 4 and p not in often}
    return inner | {"": tuple(last.shape)}


def _wide(maps: Array) -> jax.Array:
    """Compute with float32 or more."""
    maps = compilation.separate(jnp.asarray(maps))
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
