"""Maps of a frozen network, whitened or scaled, and kept in the workdir."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import split
from unlir_jax.core import finite, loops
from unlir_jax.data import source
from unlir_jax.models import drawing, pretrained, zoo
from unlir_jax.parts import clustering
from unlir_jax.runtime import preemption
from unlir_jax.storage import files
from unlir_jax.types import Array
from unlir_jax.weights import readers

BATCH = 16
FOLDER = "features"
EPSILON = 1.0
"""Of the whitening: directions of little variance stay small, as they are noise."""

Progress = Callable[[str, float], None]
Read = Callable[[int], Image.Image]
Look = Callable[[Array], jax.Array]


class Eye(NamedTuple):
    """Hold a frozen network that gives maps of one layer.

    Attributes:
        layer: Path of its module.
        image_size: Side of the square that images are stretched to.
        maps: `images in [0, 1] -> maps`, `[images, rows, columns, filters]`.
        attends: Whether attention follows as a last filter, see `attention`.
    """

    layer: str
    image_size: int
    maps: Look
    attends: bool = False


class Described(NamedTuple):
    """Hold the whitened maps of a split.

    Attributes:
        cells: float32 `[images, rows, columns, dimensions]`; attention, if there is
            some, comes last.
        places: Place of each in the source; images that cannot be read are left out.
        sizes: Width and height of each image in pixels.
    """

    cells: np.ndarray
    places: np.ndarray
    sizes: np.ndarray


def eye(
    network: pretrained.Pretrained,
    layer: str,
    image_size: int,
    *,
    last: bool = False,
    attends: bool = False,
) -> Eye:
    """Look at images through one layer of a network.

    Args:
        network: Frozen.
        layer: Path of a module; "": where the last stage but one ends, or the layer
            of the network without stages.
        image_size: Side of the images; 0: that of the network.
        last: Whether "" stands for the maps that the network itself classifies by.
        attends: Whether the attention in these maps is added, see `attention`.

    Raises:
        ValueError: There is no such layer, or it gives no maps.
    """
    known = zoo.find(network.name)[1]
    at = layer or (network.layer if last else _usual(network))
    at = pretrained.find_layer(network.name, known, at)
    side = image_size or network.image_size

    @jax.jit
    def maps(images: Array) -> jax.Array:
        def to(layer: str) -> jax.Array:
            given = network.module, layer, network.variables, images
            return split.run_to(*given, method="features")

        found = to(at)
        if not attends or found.ndim != 4:
            return found
        return jnp.concatenate([found, attention(to(network.layer), found)], axis=-1)

    shape = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    found = jax.eval_shape(maps, shape).shape
    if len(found) != 4:
        raise ValueError(
            f"`model.layer`={at!r} gives an array of {found[1:]} for an image; "
            "expected maps of rows, columns and filters."
        )
    return Eye(at, side, maps, attends)


def attention(last: Array, maps: Array) -> jax.Array:
    """Sum the positive activations of the last maps, which stand out on objects.

    Args:
        last: Maps that the network classifies by.
        maps: Maps of the grid that is wanted.

    Returns:
        `[images, rows, columns, 1]`, on the coarser grid with a mean of 0 and a
        variance of 1 in each image; zeros where all are equal.

    References:
        Wei et al., *Selective convolutional descriptor aggregation for fine-grained
        image retrieval*, 2017, Section III-A.
    """
    found = jnp.maximum(last, 0).sum(-1)
    found = found - found.mean((1, 2), keepdims=True)
    std = found.std((1, 2), keepdims=True)
    found = jnp.where(std > 0, found / jnp.where(std > 0, std, 1), 0)
    return jax.image.resize(found, maps.shape[:3], "bilinear")[..., None]


def _usual(network: pretrained.Pretrained) -> str:
    """Find the last maps of the last stage but one."""
    name, known = zoo.find(network.name)
    del name
    if not known.stages:
        return network.layer
    paths = list(split.module_paths(network.module, drawing.example(known)))
    last = known.stages[-1]
    # The expansion of an inverted residual still has the finer grid, and more filters.
    if f"{last}/expand" in paths:
        return f"{last}/expand"
    depth = last.count("/")
    above = [path for path in paths[: paths.index(last)] if path.count("/") == depth]
    return above[-1] if above else network.layer


def stretched(image: Image.Image | np.ndarray, side: int) -> np.ndarray:
    """Stretch an image to a square of 8-bit colours."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def looked_at(network: Eye, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Give the maps of some squares, batch by batch."""
    for start in range(0, len(images), BATCH):
        some = np.stack(images[start : start + BATCH])
        # A last batch is filled up, so that one program serves all.
        more = [(0, BATCH - len(some))] + [(0, 0)] * 3
        filled = np.pad(some, more, mode="edge").astype(np.float32) / 255
        found = np.asarray(network.maps(filled), np.float32)[: len(some)]
        yield found


def fit(
    network: Eye,
    images: source.Source,
    *,
    dimensions: int | None,
    count: int,
    seed: int,
) -> clustering.Whitening:
    """Fit a whitening of cells to some images.

    Args:
        network: What sees them.
        images: Training images.
        dimensions: Whitened directions; None for the filters as they are, divided by
            one number.
        count: Number of images.
        seed: Seed of their choice.

    Raises:
        ValueError: None of them can be read, or their cells are all equal.
    """
    order = np.random.default_rng([seed, 1]).permutation(images.size)
    read = source.narrowed(images).read
    squares = []
    for place in order[:count].tolist():
        square = _square(read, place, network.image_size)
        if square is not None:
            squares.append(square[0])
    if not squares:
        raise ValueError(
            f"No image of train can be read: {source.reason(images, int(order[0]))}; "
            "expected some."
        )
    each = [maps.reshape(-1, maps.shape[-1]) for maps in looked_at(network, squares)]
    cells = np.concatenate(each)
    if network.attends:
        cells = cells[:, :-1]
    if dimensions is None:
        return _scaling(cells)
    return clustering.whitening(cells, dimensions, epsilon=EPSILON)


def _scaling(cells: np.ndarray) -> clustering.Whitening:
    """Give filters a mean square of 1 by one factor, and change nothing else.

    Raises:
        ValueError: All cells are equal.
    """
    square = float(np.mean(np.square(cells), dtype=np.float64))
    variance = np.var(cells, axis=0, dtype=np.float64)
    if not variance.any():
        raise ValueError("All cells of training images are equal; expected others.")
    filters = cells.shape[-1]
    matrix = np.eye(filters, dtype=np.float32) / np.float32(np.sqrt(square))
    none = np.zeros(filters, np.float32)
    return clustering.Whitening(none, matrix, variance.astype(np.float32), 1.0)


def _square(
    read: Callable[[int], source.Example], place: int, side: int
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Read one image, as a square and with its size; None if it cannot be read."""
    try:
        image = read(place)["image"]
    except (ValueError, OSError):
        return None
    height, width = np.asarray(image).shape[:2]
    return stretched(image, side), (width, height)


def describe(
    network: Eye,
    images: source.Source,
    whitening: clustering.Whitening,
    progress: Callable[[float], None],
    asked: Callable[[], str],
) -> Described:
    """Compute the whitened maps of a split.

    Raises:
        preemption.Stopped: It was asked to stop.
        ValueError: No image of it can be read.
        FloatingPointError: The network gives no numbers for an image.
    """
    read, side = source.narrowed(images).read, network.image_size
    cells, places, sizes = [], [], []
    with ThreadPoolExecutor(loops.cores()) as pool:
        for start in range(0, images.size, BATCH):
            if asked():
                raise preemption.Stopped(f"Stopped by {asked()} at features")
            some = range(start, min(start + BATCH, images.size))
            found = list(pool.map(lambda place: _square(read, place, side), some))
            kept = [
                (place, *each)
                for place, each in zip(some, found, strict=True)
                if each is not None
            ]
            if kept:
                (maps,) = looked_at(network, [square for _, square, _ in kept])
                names = [images.name(place) for place, _, _ in kept]
                finite.check_rows(maps, "the maps", names)
                cells.append(whitened(maps, whitening))
                places += [place for place, _, _ in kept]
                sizes += [size for _, _, size in kept]
            progress(min(start + BATCH, images.size) / images.size)
    if not cells:
        raise ValueError(
            f"No image can be read: {source.reason(images, 0)}; expected some."
        )
    return Described(np.concatenate(cells), np.asarray(places), np.asarray(sizes))


def whitened(maps: np.ndarray, whitening: clustering.Whitening) -> np.ndarray:
    """Map cells to whitened space, without unit length; attention stays as it is."""
    filters = len(whitening.mean)
    cells = clustering.whiten(maps[..., :filters], whitening, normalize=False)
    return np.concatenate([np.asarray(cells), maps[..., filters:]], axis=-1)


def kept(path: Path) -> Described | None:
    """Read what `keep` wrote; None if there is nothing, or it is damaged."""
    try:
        arrays = readers.read(path)
        found = Described(*(arrays[name] for name in Described._fields))
    except (OSError, ValueError, KeyError):
        return None
    cells, places, sizes = found
    sound = (
        cells.ndim == 4
        and places.shape == (len(cells),)
        and sizes.shape == (len(cells), 2)
    )
    return found if sound and np.isfinite(cells).all() else None


def keep(path: Path, found: Described) -> None:
    """Write the maps of a split, complete or not at all."""
    path.parent.mkdir(exist_ok=True)
    stream = io.BytesIO()
    np.savez(stream, **found._asdict())
    files.write_bytes(path, stream.getvalue())
