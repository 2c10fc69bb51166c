"""Filters that an adapter raises or lowers, and where in images they respond."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split, tree
from unlir_jax.adapters import head as heads
from unlir_jax.adapters.file import HEAD, Adapter
from unlir_jax.data import classes as class_names
from unlir_jax.features import receptive_field
from unlir_jax.models import pooling, pretrained
from unlir_jax.types import Array, Images, Module, SplitModel, Variables

# Sides of what is shown of an image: so many cells, and at least such a share of it.
CELLS, LEAST = 2.0, 0.3


class Filter(NamedTuple):
    """Name one filter and its weight.

    Attributes:
        name: Name of its weights, such as `block7/expand/norm/output`.
        place: Its index there; of the kind `filter`, of the input and of the output.
        weight: Its weight.
    """

    name: str
    place: tuple[int, ...]
    weight: float


class Spots(NamedTuple):
    """Hold where filters respond most, the strongest image first.

    Attributes:
        pictures: Indices, `[filters, count]`.
        cells: Row and column of the largest response there, `[filters, count, 2]`.
        values: The response, `[filters, count]`.
        grids: Rows and columns of each filter's map, `[filters, 2]`.
    """

    pictures: np.ndarray
    cells: np.ndarray
    values: np.ndarray
    grids: np.ndarray


def by_depth(names: Iterable[str], module: Module, image_size: int) -> list[str]:
    """Sort names of weights by when a backbone calls what they multiply; others last.

    Args:
        names: As `filters.init` makes them.
        module: The network.
        image_size: Side in pixels of its images.
    """
    called = _called(module, image_size)
    return sorted(
        names, key=lambda name: (called.get(_module(name), len(called)), name)
    )


def in_trunk(
    weights: Mapping[str, Array], module: Module, image_size: int
) -> dict[str, Array]:
    """Leave out weights of what is not in the backbone, such as a classifier."""
    called = _called(module, image_size)
    return {name: leaf for name, leaf in weights.items() if _module(name) in called}


def most(weights: Mapping[str, Array], count: int) -> tuple[list[Filter], list[Filter]]:
    """Find the filters with the largest weights above 1, and the smallest below it.

    Args:
        weights: Weights of one adapter.
        count: At most so many of each.

    Returns:
        The most raised first, and the most lowered first.
    """
    every = [
        Filter(name, tuple(map(int, place)), float(value))
        for name, leaf in weights.items()
        for place, value in np.ndenumerate(np.asarray(leaf))
    ]
    rising = sorted(every, key=lambda each: each.weight)
    lowered = [each for each in rising[:count] if each.weight < 1]
    raised = [each for each in rising[::-1][:count] if each.weight > 1]
    return raised, lowered


def respond(
    module: Module, filters: Sequence[Filter]
) -> Callable[[Variables, Images], list[jax.Array]]:
    """Make the maps of some filters, `(variables, images) -> [batch, rows, columns]`.

    Of weights of outputs, the output of what they multiply, after its norm and before
    its activation; of weights of inputs, what the kernel is given there; of pairs, the
    output.
    """
    paths = tuple(dict.fromkeys(_module(each.name) for each in filters))

    @jax.jit
    def look(variables: Variables, images: Images) -> list[jax.Array]:
        seen = split.watch(module, paths, variables, images)
        return [
            seen[_module(each.name)][_side(each.name)][..., each.place[-1]]
            for each in filters
        ]

    return look


def fire(
    module: Module,
    variables: Variables,
    filters: Sequence[Filter],
    batches: Iterable[Array],
    count: int,
) -> Spots:
    """Find the images, and the cells in them, where filters respond most.

    An image counts once for each filter, with its strongest cell; of equal ones the
    first.

    Args:
        module: The network.
        variables: Variables of the frozen network.
        filters: At least one.
        batches: `[batch, height, width, 3]` in [0, 1]; none is larger than the first.
        count: Images of each filter; fewer where there are fewer.

    Raises:
        ValueError: There is no filter or no image.
    """
    look = respond(module, filters)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    grids, size = np.zeros((len(filters), 2), int), 0
    for images in batches:
        size = size or len(images)
        padded = np.pad(images, [(0, size - len(images))] + [(0, 0)] * 3)
        maps = [np.asarray(each)[: len(images)] for each in look(variables, padded)]
        grids = np.asarray([each.shape[1:3] for each in maps])
        flat = [each.reshape(len(each), -1) for each in maps]
        cells = np.stack([each.argmax(1) for each in flat])
        found.append((np.stack([each.max(1) for each in flat]), cells))
    if not found or not filters:
        raise ValueError(
            f"`filters` has {len(filters)} and `batches` {len(found)} items; expected "
            "at least one of each."
        )
    values, cells = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    best = np.argsort(-values, axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(cells, best, axis=1)
    places = np.stack([chosen // grids[:, 1:], chosen % grids[:, 1:]], axis=-1)
    return Spots(best, places, np.take_along_axis(values, best, axis=1), grids)


def centres(
    module: Module, variables: Variables, filters: Sequence[Filter], images: Images
) -> list[receptive_field.Centres]:
    """Measure where the cells of each filter's map look.

    Asked once for each size of map: convolutions without stride, as between maps of one
    size, do not move their cells.

    Args:
        module: The network.
        variables: Variables of the frozen network.
        filters: Whose maps.
        images: A few natural images.
    """
    shapes = [
        each.shape[1:3]
        for each in jax.eval_shape(respond(module, filters), variables, images)
    ]
    known: dict[tuple[int, ...], receptive_field.Centres] = {}
    for each, shape in zip(filters, shapes, strict=True):
        if shape in known:
            continue
        path, side = _module(each.name), _side(each.name)

        def maps(
            variables: Variables, images: Array, path: str = path, side: int = side
        ) -> Array:
            return split.watch(module, [path], variables, images)[path][side]

        known[shape] = receptive_field.measure(maps, variables, images)
    return [known[shape] for shape in shapes]


def region(
    centres: receptive_field.Centres, cell: Sequence[int], grid: Sequence[int]
) -> tuple[float, float, float, float]:
    """Give the square round the centre of a cell: left, top, right and bottom.

    In shares of the image, moved to lie within it. What moves the cell reaches
    farther, often over all of the image; the middle counts most.
    """
    side = min(max(CELLS / min(grid), LEAST), 1.0)
    row, column = centres.rows[cell[0]], centres.columns[cell[1]]
    left, top = (
        float(np.clip(middle - side / 2, 0, 1 - side)) for middle in (column, row)
    )
    return left, top, left + side, top + side


def evenly(count: int, wanted: int) -> np.ndarray:
    """Choose places that lie evenly over a list."""
    wanted = min(count, wanted)
    return ((np.arange(wanted) + 0.5) * count / wanted).astype(int)


def decision(
    adapter: Adapter, network: pretrained.Pretrained
) -> tuple[SplitModel, tuple[str, ...], bool]:
    """Make the network decide by the head of its adapter, where that is known.

    Returns:
        The network cut at its last maps, the names of the classes, and whether the
        head is the adapter's; else it is the network's own classifier.
    """
    says, kernel = adapter.metadata, adapter.head.get("kernel")
    width = np.shape(tree.flatten(network.variables).get(f"{HEAD}kernel", 0))[:1]
    known = (
        kernel is not None
        and kernel.ndim == 2
        and kernel.shape[:1] == width
        and says.get("head") in heads.HEADS
        and says.get("pooling") in pooling.POOLINGS
    )
    if not known or kernel is None:
        return network.model, network.class_names, False
    kind, scale = says["head"], float(says.get("scale", heads.SCALE))
    pool = pooling.POOLINGS[says["pooling"]]
    head = {"kernel": kernel, "bias": np.zeros(kernel.shape[1], np.float32)}
    head |= {name: leaf for name, leaf in adapter.head.items() if name in head}

    def features(variables: Variables, images: Images) -> jax.Array:
        return network.module.apply(dict(variables), images, method="features")

    def classify(variables: Variables, maps: Array) -> jax.Array:
        del variables
        return heads.logits(kind, head, pool(jnp.asarray(maps)), scale)

    names = tuple(map(str, says.get("class_names", ())))
    if len(names) != kernel.shape[1]:
        names = class_names.placeholders(kernel.shape[1])
    mean = network.model.mean
    return split.from_functions(features, classify, mean=mean), names, True


def _called(module: Module, image_size: int) -> dict[str, int]:
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    paths = split.module_paths(module, images, method="features")
    return {path: place for place, path in enumerate(paths)}


def _module(name: str) -> str:
    return name.rpartition("/")[0]


def _side(name: str) -> int:
    """Tell whether what goes in, 0, or what comes out, 1, is weighted."""
    return 0 if name.rpartition("/")[2] == "input" else 1
