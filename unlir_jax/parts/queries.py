"""Efficient Probing in closed form: its queries are parts, its values their classes."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from unlir_jax.models.attention_pooling.pool import EXACT, shares
from unlir_jax.parts import clustering, ridge
from unlir_jax.parts.products import chunks
from unlir_jax.parts.start import MOST_PICTURES, sample
from unlir_jax.types import Array, RandomKey

DIMENSIONS = 64
SHARPNESS = (0.0, 0.15, 0.3, 0.6)
"""Factors on the scores to choose from, in the order in which equals are taken."""


class Queries(NamedTuple):
    """Hold what a network that pools by `efficient_probing` starts from.

    Attributes:
        query: `[queries, channels]`.
        values: `[channels, channels]`.
        kernel: The classifier's, `[channels, classes]`.
        bias: `[classes]`.
        notes: Numbers by name, such as the accuracy of leaving one image out.
    """

    query: np.ndarray
    values: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    notes: dict[str, float]


def fit(
    maps: Array,
    labels: Array,
    classes: int,
    count: int,
    *,
    key: RandomKey,
    sharpness: Sequence[float] = SHARPNESS,
    progress: Callable[[str], None] = lambda text: None,
) -> Queries:
    """Fit queries, values and a classifier of Efficient Probing in closed form.

    Queries are the directions of spherical k-means in the white space of the locations:
    `X q / sqrt(d) = sharpness * z(X) c + constant`, and a softmax drops the constant. A
    ridge regression of what all queries pool gives the classes (`ridge.solve`). Values
    are the directions that keep most of the variance of each query's logits. With at
    least as many channels a query as classes, they lose nothing.

    The sharpness is the one with the best accuracy on training images that are left
    out. Sharpness 0 is uniform attention: a ridge regression on average pooling.

    Args:
        maps: Last maps of the training images, `[images, rows, columns, channels]`; may
            lie on the disk, and is read by chunks.
        labels: Integers, `[images]`.
        classes: Number of classes.
        count: Number of queries, which divides that of the channels.
        key: Key of the sampled locations and of the clustering.
        sharpness: To choose from.
        progress: Told what is being done.

    Raises:
        ValueError: Too many images, or too few of a class.
    """
    labels, channels = np.asarray(labels), maps.shape[-1]
    if len(labels) > MOST_PICTURES:
        raise ValueError(
            f"`start`='parts' compares all pairs of {len(labels)} images; expected at "
            f"most {MOST_PICTURES}, or another start and more steps."
        )
    progress("queries")
    directions = _directions(maps, count, key)
    best: ridge.Ridge | None = None
    chosen, pooled = 0.0, np.empty(0, np.float32)
    for value in sharpness:
        progress(f"sharpness {value:g}")
        query = value * np.sqrt(channels) * directions
        found = _pool(maps, query)
        centred = found - found.mean(0)
        flat = centred.reshape(len(found), -1)
        solved = ridge.solve(flat @ flat.T, labels, classes)
        if best is None or solved.accuracy > best.accuracy:
            best, chosen, pooled = solved, value, found
    if best is None:
        raise ValueError("`sharpness`=() is empty; expected numbers from 0.")
    values, kernel, bias = _factors(pooled, best)
    return Queries(
        (chosen * np.sqrt(channels) * directions).astype(np.float32),
        values,
        kernel,
        bias,
        {
            "start/left_out_accuracy": best.accuracy,
            "start/penalty": best.penalty,
            "start/sharpness": chosen,
        },
    )


def _directions(maps: Array, count: int, key: RandomKey) -> np.ndarray:
    """Find the directions in which locations differ, `[queries, channels]`."""
    first, second = jax.random.split(key)
    cells = sample(lambda rows: rows, maps, first)
    white = clustering.whitening(cells, DIMENSIONS)
    whitened = clustering.whiten(cells, white)
    found = clustering.kmeans(whitened, count, key=second, restarts=3, spherical=True)
    return np.asarray(found.centres) @ np.asarray(white.matrix).T


def _pool(maps: Array, query: np.ndarray) -> np.ndarray:
    """Add up all channels by each query, `[images, queries, channels]`."""
    channels = maps.shape[-1]

    @jax.jit
    def pool(rows: Array, query: Array) -> Array:
        exact = functools.partial(jax.numpy.einsum, precision=EXACT)
        scores = exact("bijc,qc->bijq", rows, query) / np.sqrt(channels)
        return exact("bijc,bijq->bqc", rows, shares(scores))

    found = np.empty((len(maps), len(query), channels), np.float32)
    for first, rows in chunks(maps):
        end = min(first + len(rows), len(maps))
        found[first:end] = np.asarray(pool(rows, query))[: end - first]
    return found


def _factors(
    pooled: np.ndarray, solved: ridge.Ridge
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split each query's classes into values and a classifier of few channels."""
    _, queries, channels = pooled.shape
    width = channels // queries
    values = np.eye(channels, dtype=np.float32)
    kernel = np.zeros((channels, solved.dual.shape[1]), np.float32)
    bias = solved.bias.astype(np.float64)
    # A combination of images whose rows add up to nothing needs no mean taken off.
    dual = solved.dual - solved.dual.mean(0)
    for number in range(queries):
        given = pooled[:, number]
        usual = given.mean(0)
        weights = given.T @ dual
        _, sizes, turned = np.linalg.svd((given - usual) @ weights, full_matrices=False)
        kept = min(width, int(np.sum(sizes > 1e-6 * sizes[0])))
        directions = weights @ turned[:kept].T
        lengths = np.linalg.norm(directions, axis=0)
        place = slice(number * width, number * width + kept)
        values[:, place] = directions / lengths
        kernel[place] = turned[:kept] * lengths[:, None]
        bias -= usual @ directions @ turned[:kept]
    return values, kernel, bias.astype(np.float32)
