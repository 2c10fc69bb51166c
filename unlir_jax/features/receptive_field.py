"""Receptive fields of cells in the image, and maps at pixel level placed there.

Bilinear enlarging takes it that cell i of n looks at (i + 0.5) / n of the image. That
need not be so: a convolution with kernel k, stride s and p zeros before its input moves
the centre of its first cell by (k - 1) / 2 - p pixels of that input, so that after five
strides of 2 PyTorch's symmetric zeros centre cells of 32 pixels on 32 i + 0.5, and
TensorFlow's on 32 i + 31.5, half a cell to either side. Trained kernels compensate
most of this shift, so the centres are measured from gradients.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.types import Array, Variables


class Centres(NamedTuple):
    """Hold where cells look, in shares of the image from its upper left corner.

    Attributes:
        rows: The centre of each row of cells, growing.
        columns: The centre of each column of cells, growing.
    """

    rows: tuple[float, ...]
    columns: tuple[float, ...]


def even(rows: int, columns: int) -> Centres:
    """Give the centres that bilinear enlarging takes for granted."""
    return Centres(
        tuple((index + 0.5) / rows for index in range(rows)),
        tuple((index + 0.5) / columns for index in range(columns)),
    )


def measure(
    function: Callable[[Variables, Array], Array], variables: Variables, images: Array
) -> Centres:
    """Ask the cells in the middle which pixels move them, and place all by the answer.

    The centre of mass of the squared gradient, over images and channels. All cells
    are as far from where they are taken to be as those in the middle are, whose fields
    the border cuts equally on both sides.

    Args:
        function: `(variables, images) -> maps`, `[batch, rows, columns, channels]`.
        variables: Its first argument.
        images: Some images, `[batch, height, width, 3]` in [0, 1]: natural ones for a
            network that has been trained on such.

    Returns:
        The centres of the cells; `even`'s where no pixel moves the middle.
    """

    @jax.jit
    def pull(images: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        def energy(images: jax.Array) -> jax.Array:
            maps = function(variables, images)
            return jnp.sum(jnp.square(maps[:, row, column]))

        return jnp.sum(jnp.square(jax.grad(energy)(images)), axis=(0, 3))

    images = jnp.asarray(images)
    shape = jax.eval_shape(functools.partial(function, variables), images).shape
    _, rows, columns, *_ = shape
    middle = {
        ((rows - 1) // 2, (columns - 1) // 2),
        (rows // 2, columns // 2),
    }
    taken, shifts = even(rows, columns), []
    for cell in sorted(middle):
        row, column = (jnp.asarray(index) for index in cell)
        weight = np.asarray(pull(images, row, column), np.float64)
        if not (np.isfinite(weight).all() and weight.sum() > 0):
            return taken
        shifts.append(
            [_centre(weight.sum(1 - axis)) - taken[axis][cell[axis]] for axis in (0, 1)]
        )
    down, right = np.mean(shifts, axis=0).tolist()
    return Centres(
        tuple(place + down for place in taken.rows),
        tuple(place + right for place in taken.columns),
    )


def _centre(weight: np.ndarray) -> float:
    """Give the centre of mass along an axis, in shares of its length."""
    places = (np.arange(len(weight)) + 0.5) / len(weight)
    return float(np.sum(weight * places) / np.sum(weight))


def place(maps: Array, centres: Centres, size: int) -> jax.Array:
    """Enlarge maps so that the value of each cell is where the cell looks.

    Linear between the centres of neighbours; outside of the outermost ones, theirs.
    With `even` centres this is bilinear enlarging.

    Args:
        maps: `[batch, rows, columns, …]`.
        centres: Centres of its cells.
        size: Side of the result.

    Returns:
        `[batch, size, size, …]`.

    Raises:
        ValueError: The maps have another number of rows or columns than the centres.
    """
    maps = jnp.asarray(maps)
    counts = len(centres.rows), len(centres.columns)
    if maps.shape[1:3] != counts:
        raise ValueError(
            f"`maps` has shape {maps.shape}; expected [batch, {counts[0]}, {counts[1]}"
            ", …], a cell for each of the centres."
        )
    down = _between(tuple(centres.rows), size).astype(maps.dtype)
    across = _between(tuple(centres.columns), size).astype(maps.dtype)
    high = jax.lax.Precision.HIGHEST
    tall = jnp.einsum("hr,br...->bh...", down, maps, precision=high)
    return jnp.einsum("wc,bhc...->bhw...", across, tall, precision=high)


@functools.lru_cache(maxsize=256)
def _between(places: tuple[float, ...], size: int) -> np.ndarray:
    """Weigh the cells for each pixel: `[size, cells]`."""
    pixels = (np.arange(size) + 0.5) / size
    weights = [np.interp(pixels, places, row) for row in np.eye(len(places))]
    return np.stack(weights, axis=1)
