"""Properties of maps of parts that need no true parts.

All is computed some images at a time: beyond the maps, memory does not grow with
images times cells times parts.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Integer

from unlir_jax.metrics.localization.boxes import VOID
from unlir_jax.types import Array

Scores = Float[Array, "images rows columns parts"]
"""How much each cell of each image is each part."""

Masks = Integer[Array, "images height width"]
"""The true part of each pixel, from 1 on; 0 is the background, 255 void: not said."""

# So many numbers are held at once: 32 MiB of float64.
HELD = 2**22


def chunks(count: int, size: int) -> Iterator[slice]:
    """Cut `count` things of `size` numbers each into slices that fit into memory."""
    step = max(1, HELD // max(1, size))
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))


def overlap(scores: Scores) -> np.ndarray:
    """Measure how much the maps of different parts cover the same cells.

    Each map is brought into [0, 1] by its own range; the overlap of two is their
    cosine: 0 where no cell is in both, 1 where they differ by a factor alone.

    Returns:
        `[images]`, the mean over all pairs of parts. A flat map is zeros: it overlaps
        no other.

    Raises:
        ValueError: A wrong shape, fewer than two parts, or a score that is not finite.

    Example:
        >>> import numpy as np
        >>> from unlir_jax.metrics import parts
        >>> apart = np.eye(2).reshape(1, 1, 2, 2)  # Two cells, a part in each.
        >>> parts.overlap(apart).tolist(), parts.overlap(apart[..., [0, 0]]).tolist()
        ([0.0], [1.0])
    """
    scores = check_scores(scores)
    images, rows, columns, parts = scores.shape
    if parts < 2:
        raise ValueError("`scores` has one part; expected at least two to overlap.")
    result = np.empty(images)
    for some in chunks(images, rows * columns * parts):
        maps = scores[some].reshape(-1, rows * columns, parts).astype(np.float64)
        maps -= maps.min(1, keepdims=True)
        result[some] = _pairs(_unit(maps, 1))
    return result


def assignment_entropy(probabilities: Scores) -> np.ndarray:
    """Measure how undecided cells are between parts, by the entropy over parts.

    Args:
        probabilities: Non-negative, with sum 1 over the parts of each cell.

    Returns:
        `[images]`, the mean over cells, divided by the logarithm of the number of
        parts: 0 where each cell is one part, 1 where it is all equally. 0 for one part.

    Raises:
        ValueError: A wrong shape, or no probabilities.
    """
    probabilities = check_scores(probabilities, "probabilities")
    images, rows, columns, parts = probabilities.shape
    result = np.empty(images)
    for some in chunks(images, rows * columns * parts):
        cells = probabilities[some].astype(np.float64)
        furthest = np.abs(cells.sum(-1) - 1).max()
        if cells.min() < 0 or furthest > 0.01:
            raise ValueError(
                f"`probabilities` has the least value {cells.min():g} and sums over "
                f"parts that miss 1 by up to {furthest:g}; expected a distribution for "
                "each cell, such as a softmax."
            )
        logarithms = np.log(cells, out=np.zeros_like(cells), where=cells > 0)
        entropy = -np.sum(cells * logarithms, axis=-1)
        result[some] = entropy.mean((1, 2)) / np.log(max(parts, 2))
    return np.clip(result, 0, 1)


def sparsity(
    contributions: Float[Array, "images parts"], share: float = 0.95
) -> np.ndarray:
    """Count the parts that make up most of a decision, the largest first.

    Args:
        contributions: Contribution of each part to the logit, of either sign.
        share: How much of the sum of their absolute values is to be reached.

    Returns:
        `[images]`, integers: the fewest parts that reach it; 0 if all contribute 0.

    Raises:
        ValueError: A wrong shape, a value that is not finite, or a `share` outside
            (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share`={share}; expected more than 0 and at most 1.")
    values = np.asarray(contributions)
    if values.ndim != 2:
        raise ValueError(
            f"`contributions` has shape {values.shape}; expected [images, parts]."
        )
    check_finite("contributions", values)
    sizes = -np.sort(-np.abs(values.astype(np.float64)), axis=1)
    reached = np.cumsum(sizes, axis=1)
    # Sums in another order differ by rounding: what is reached but for it, is reached.
    missing = reached < (share - 1e-12) * reached[:, -1:]
    return np.where(reached[:, -1] > 0, missing.sum(1) + 1, 0)


def part_cosine(parts: Float[Array, "parts channels"]) -> float:
    """Give the mean absolute cosine of the vectors of different parts.

    Returns:
        In [0, 1]; 0 if all are orthogonal. A vector of zeros is orthogonal to all.

    Raises:
        ValueError: A wrong shape, fewer than two parts, or a value that is not finite.
    """
    vectors = np.asarray(parts)
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(
            f"`parts` has shape {vectors.shape}; expected [parts, channels] with at "
            "least two parts."
        )
    check_finite("parts", vectors)
    unit = _unit(vectors.astype(np.float64), 1)
    cosines = np.abs(unit @ unit.T)
    count = len(unit) * (len(unit) - 1)
    return float((cosines.sum() - np.trace(cosines)) / count)


def count_pixels(masks: Masks, rows: int, columns: int, values: int) -> np.ndarray:
    """Count the pixels of each value of a mask in each cell of a grid.

    A pixel belongs to the cell that its centre is in; void pixels are not counted.

    Args:
        masks: `[images, height, width]`.
        rows: Rows of the grid.
        columns: Columns of the grid.
        values: One more than the largest value but for void.

    Returns:
        int64 `[images, rows, columns, values]`.

    Raises:
        ValueError: A mask with a value beyond, or with fewer pixels than cells.
    """
    images, height, width = masks.shape
    if height < rows or width < columns:
        raise ValueError(
            f"`masks` has {height} x {width} pixels; expected at least as many as the "
            f"{rows} x {columns} cells."
        )
    void = masks == VOID
    low = int(masks.min(initial=0))
    high = int(masks.max(initial=0, where=~void))
    if low < 0 or high >= values:
        raise ValueError(
            f"`masks` holds {low if low < 0 else high}; expected 0 for the background, "
            f"1 to {values - 1} for parts, and {VOID} for void."
        )
    row = (2 * np.arange(height) + 1) * rows // (2 * height)
    column = (2 * np.arange(width) + 1) * columns // (2 * width)
    cell = (row[:, None] * columns + column) * values
    counts = np.empty((images, rows, columns, values), np.int64)
    size = rows * columns * values
    for some in chunks(images, height * width + size):
        number = some.stop - some.start
        first = np.arange(number)[:, None, None] * size
        flat = (masks[some] + cell + first)[~void[some]]
        found = np.bincount(flat, minlength=number * size)
        counts[some] = found.reshape(number, rows, columns, values)
    return counts


def check_scores(scores: Scores, name: str = "scores") -> np.ndarray:
    """Give scores as a NumPy array, or refuse them by name."""
    values = np.asarray(scores)
    if values.ndim != 4 or 0 in values.shape:
        raise ValueError(
            f"`{name}` has shape {values.shape}; expected [images, rows, columns, "
            "parts], none of them 0."
        )
    check_finite(name, values)
    return values


def check_masks(masks: Masks, images: int) -> np.ndarray:
    """Give masks as a NumPy array, or refuse them if they are not as many."""
    values = np.asarray(masks)
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"`masks` is {values.dtype}; expected integers.")
    if values.ndim != 3 or len(values) != images:
        raise ValueError(
            f"`masks` has shape {values.shape}; expected [images, height, width] for "
            f"{images} images."
        )
    return values


def check_finite(name: str, values: np.ndarray) -> None:
    """Refuse values that are not finite, and say how many."""
    size = values[0].size if len(values) else 0
    wrong = sum(
        np.count_nonzero(~np.isfinite(values[some]))
        for some in chunks(len(values), size)
    )
    if wrong:
        raise ValueError(
            f"`{name}` holds {wrong} values that are not finite; expected numbers."
        )


def _unit(vectors: np.ndarray, axis: int) -> np.ndarray:
    """Divide vectors by their length; vectors of zeros stay."""
    # By the largest value first: squares of very small numbers are zero.
    largest = np.abs(vectors).max(axis, keepdims=True)
    vectors = vectors / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(vectors, axis=axis, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _pairs(maps: np.ndarray) -> np.ndarray:
    """Average the products of different columns: `[n, cells, parts]` to `[n]`."""
    parts = maps.shape[-1]
    # The sum over all pairs is the square of the sum; less the pairs of equal ones.
    everything = np.sum(maps.sum(-1) ** 2, axis=1) - np.sum(maps**2, axis=(1, 2))
    return np.clip(everything / (parts * (parts - 1)), 0, 1)
