"""Networks that decide by parts: a backbone, regions, parts, and what they add up to.

A reconstruction of DP-Net (Sicre et al., ICIP 2023, arXiv 2404.15037), whose text gives
the outline (region descriptors, a part layer S = U X, a bag of parts, constraints in
words) and no further formulas. A decision is one of `DECISIONS`, see `decision.py`; it
adds up to the logits part by part, without a rest.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from unlir_jax.core import choices, compilation
from unlir_jax.core.document_types import Document, Record
from unlir_jax.models import layers

# Importing a decision registers it. The order is that of lists.
# isort: off
from unlir_jax.models.part_network import descriptors as descriptors
from unlir_jax.models.part_network import bag_of_parts as bag_of_parts
from unlir_jax.models.part_network import prototypes as prototypes
from unlir_jax.models.part_network import landmarks as landmarks

# isort: on
from unlir_jax.models.part_network.cells import Grid, Reading, Traits, pack, unpack
from unlir_jax.models.part_network.decision import DECISIONS, Decision
from unlir_jax.types import Array, Module

LARGER = "2x"
"""Instead of a finer layer: the same layer of the image at twice its size."""


class PartNet(nn.Module):
    """Classify images in [0, 1] by the parts that are seen in them.

    Submodules `backbone` and `classifier`, the decision. Like every network of ours it
    has `features` and `head`, so every explainer and metric runs on it; `read` says
    what the parts are and what each of them adds.

    Attributes:
        backbone: Gives `features(images, train)`; its own classifier is not used.
        classifier: One of `DECISIONS`, built for the number of classes.
        channels: Number of channels of the backbone's last maps.
        layer: Path of a module of the backbone whose finer maps help to tell parts
            apart; "2x" for the last maps of the image at twice its size; "" for none.
        others: Channels of that layer.
        at: Path of the module whose maps stand for the last ones; "" for the backbone's
            own. What lies behind it is not computed, and keeps its parameters.
    """

    backbone: Module
    classifier: Module
    channels: int
    layer: str = ""
    others: int = 0
    at: str = ""

    @property
    def style(self) -> layers.Style:
        """Give the style of the backbone."""
        return self.backbone.style

    @property
    def mean(self) -> tuple[float, ...]:
        """Give the colour that the backbone sees as zero."""
        return self.backbone.mean

    @property
    def num_classes(self) -> int:
        """Give the number of classes that are decided between."""
        return self.classifier.classes

    def features(self, images: Array, train: bool = False) -> jax.Array:
        """Compute the backbone's maps, with the finer layer's packed behind."""
        maps, finer = self._maps(images, train)
        if self.layer == LARGER:
            size = (len(images), *(2 * side for side in images.shape[1:3]), 3)
            larger = jax.image.resize(images, size, "bilinear", antialias=False)
            finer, _ = self._maps(larger, train)
        return maps if finer is None else pack(maps, finer)

    def _maps(self, images: Array, train: bool) -> tuple[jax.Array, jax.Array | None]:
        """Give the last maps, and the finer layer's if there is one."""
        inner = self.layer if self.layer != LARGER else ""
        if not (inner or self.at):
            return self.backbone.features(images, train), None
        seen: dict[str, list[jax.Array]] = {self.at: [], inner: []}

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            path = "/".join(context.module.path).removeprefix("backbone/")
            if context.method_name == "__call__" and path in seen:
                seen[path].append(output)
            return output

        with nn.intercept_methods(intercept):
            maps = self.backbone.features(images, train)
        for path in filter(None, seen):
            if len(seen[path]) != 1:
                raise ValueError(
                    f"`layer`={path!r} is called {len(seen[path])} times by the "
                    "backbone; expected a module that is called once, such as "
                    "'block13'."
                )
        last = self._laid_out(seen[self.at][0], maps) if self.at else maps
        return last, self._laid_out(seen[inner][0], maps) if inner else None

    def _laid_out(self, output: jax.Array, maps: jax.Array) -> jax.Array:
        """Give what a layer gave as maps, on the grid of the last ones if as tokens."""
        if output.ndim == 4:
            return output
        cells = output[:, self.backbone.leading :]
        return cells.reshape(*maps.shape[:3], cells.shape[-1])

    def head(self, maps: Array, train: bool = False) -> jax.Array:
        """Decide by parts: logits `[batch, classes]`, the sum of all contributions."""
        return self.classifier.logits(self.grid(maps), train)

    def read(self, maps: Array, train: bool = False) -> Reading:
        """Say which parts are seen where, and what each adds to each logit."""
        return self.classifier.read(self.grid(maps), train)

    def traits(self, maps: Array, train: bool = False) -> Traits:
        """Give what constraints on parts look at, the logits included."""
        return self.classifier.traits(self.grid(maps), train)

    @property
    def looks_at_cells(self) -> bool:
        """Say that the mean of the maps is not enough for the head."""
        return True

    @property
    def knows(self) -> tuple[str, ...]:
        """List the traits that this decision has, and others may not."""
        return self.classifier.knows

    def evidence(self, maps: Array, labels: Array) -> jax.Array:
        """Say what each cell adds to one logit of its image, through each part.

        Args:
            maps: What `features` gives.
            labels: A class for each image, `[batch]`.

        Returns:
            `[batch, rows, columns, parts]` on the grid of the last maps; over rows,
            columns and parts it adds up to the logit less `offset`.
        """
        return self.classifier.evidence(self.grid(maps), labels)

    def offset(self) -> jax.Array:
        """Give what `evidence` leaves to the logits, `[classes]`."""
        return self.classifier.offset()

    def __call__(self, images: Array, train: bool = False) -> jax.Array:
        """Compute logits, `[batch, classes]`."""
        return self.head(self.features(images, train), train)

    def describe_cells(self, maps: Array) -> jax.Array:
        """Give the unit vectors that parts are compared with."""
        return self.classifier.cells(self.grid(maps))

    def describe(
        self, maps: Array, first: Array | int = 0, count: int = 0
    ) -> jax.Array:
        """Give descriptors of `count` parts from the `first` on, or of all parts."""
        grid = self.grid(maps)
        _, shares = self.classifier.look(grid)
        if count:
            shares = jax.lax.dynamic_slice_in_dim(shares, first, count, axis=-1)
        return self.classifier.describe(grid, shares)

    def grid(self, maps: Array) -> Grid:
        """Unpack the cells of the last and of the finer layer."""
        maps = compilation.separate(maps)
        return unpack(maps, self.channels, self.others)


def assemble(
    backbone: Module, decision: Document, classes: int, image_size: int
) -> PartNet:
    """Build a part network round a backbone.

    Args:
        backbone: A network of ours.
        decision: `name`, one of `DECISIONS`; `layer`, whose finer maps are looked at as
            well: a path, "" for none, "auto" for the last one with twice the rows of
            the last maps, or "2x" for the maps of the image at twice its size; `at`,
            the path of the layer that stands for the last one, "" for the last one
            itself; and the attributes of the decision.
        classes: Number of classes.
        image_size: Side in pixels of the images that it is for.

    Raises:
        ValueError: There is no such decision, layer or attribute, or the image is
            smaller than a cell of the backbone.
    """
    chosen = dict(decision)
    name, layer, at = (chosen.pop(key, "") for key in ("name", "layer", "at"))
    wrong = f"`decision.name`={name!r}"
    choices.pick(str(name), DECISIONS, wrong, "expected one of {}")
    sizes = _sizes(backbone, image_size)
    for setting, path, more in (("at", at, ()), ("layer", layer, ("auto", LARGER))):
        if path not in (*sizes, *more):
            known = [name for name in sizes if name and "/" not in name]
            raise ValueError(
                f"`decision.{setting}`={path!r} is no layer of the backbone; expected "
                f"'' or one of {', '.join((*more, *known))}."
            )
    last = sizes[at]
    sizes.pop("")
    if layer == "auto":
        twice = range(2 * last[1] - 1, 2 * last[1] + 1)
        blocks = [path for path in sizes if "/" not in path and sizes[path][1] in twice]
        layer = blocks[-1] if blocks else ""
    others = last[-1] if layer == LARGER else sizes[layer][-1] if layer else 0
    built = cast(Callable[..., Module], DECISIONS[name])
    known = _attributes(DECISIONS[name])
    for option in chosen:
        wrong = f"`decision.{option}` is no setting of {name!r}"
        choices.pick(option, known, wrong, "expected some of {}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()}
    head = built(classes=classes, channels=last[-1], others=others, **values)
    head.check(last[1], last[2])
    return PartNet(backbone, head, last[-1], layer, others, at)


def specification(module: Module) -> Record:
    """Describe a part network's decision so that `assemble` builds it again.

    Returns:
        {} for a network that does not decide by parts.
    """
    if not isinstance(module, PartNet):
        return {}
    head = module.classifier
    name = next(name for name, kind in DECISIONS.items() if type(head) is kind)
    values = {field: getattr(head, field) for field in _attributes(type(head))}
    own = {"name": name, "layer": module.layer}
    return own | ({"at": module.at} if module.at else {}) | values


def _attributes(decision: type[Decision]) -> tuple[str, ...]:
    fixed = ("classes", "channels", "others", "parent", "name")
    fields = dataclasses.fields(decision)
    return tuple(field.name for field in fields if field.name not in fixed)


def _sizes(backbone: Module, image_size: int) -> dict[str, tuple[int, ...]]:
    """List the shapes of what the modules of a backbone give, the last maps' as ""."""
    seen: dict[str, tuple[int, ...]] = {}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path and hasattr(output, "shape"):
            seen[path] = tuple(output.shape)
        return output

    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    with nn.intercept_methods(intercept):
        last = jax.eval_shape(
            lambda images: backbone.init_with_output(
                jax.random.key(0), images, method="features"
            )[0],
            images,
        )
    if 0 in last.shape:
        raise ValueError(
            f"`image_size`={image_size} is too small: the backbone leaves no cell of "
            "it; expected a larger image, at least its stride."
        )
    if hasattr(backbone, "cuts"):
        inner = _grids(seen, tuple(last.shape), backbone.leading)
    else:
        inner = {path: shape for path, shape in seen.items() if len(shape) == 4}
    return inner | {"": tuple(last.shape)}


def _grids(
    seen: Mapping[str, tuple[int, ...]], last: tuple[int, ...], leading: int
) -> dict[str, tuple[int, ...]]:
    """List the shapes of tokens as maps: all layers of a transformer have one grid."""
    count = leading + last[1] * last[2]
    return {
        path: (*last[:3], shape[-1])
        for path, shape in seen.items()
        if shape[1:-1] in ((count,), last[1:3])
    }
