"""The names of things: array shapes, and the contracts that every layer speaks."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Integer, Key

Array = jax.Array | np.ndarray

Images = Float[Array, "batch height width channels"]
"""Images in [0, 1]; a network's own mean and standard deviation live inside it."""

Maps = Float[Array, "batch map_height map_width filters"]
"""What crosses the cut of a `SplitModel`."""

Logits = Float[Array, "batch ... classes"]
"""One row an image, or of a dense output one a place, `[batch, rows, columns, k]`."""

Labels = Integer[Array, "batch ..."]
"""One class an image, or of a dense output a label map, see `split.scores.region`."""

Saliency = Float[Array, "batch rows columns"]
"""Raw, at the explainer's own resolution: neither resized nor normalised."""

Mask = Float[Array, "batch height width"]
"""In [0, 1] and as large as the image it multiplies."""

PerImage = Float[Array, " batch"]
RandomKey = Key[jax.Array, ""]

PyTree = Any
"""Arrays in nested containers, as `jax.tree` takes them."""

Variables = PyTree
"""A Linen variable tree, an NNX state, or whatever a cut's two functions accept."""

Module = Any
"""A Linen module; its own methods and fields are those of its class."""


class Features(NamedTuple):
    """Carry everything that the head needs across the cut.

    `maps` is what is explained; `context` is the rest: empty where the cut separates
    the network, the images where a path may bypass it.
    """

    maps: PyTree
    context: PyTree = ()


class Attended(NamedTuple):
    """Hold what a transformer gives.

    Attributes:
        logits: `[batch, classes]`.
        weights: Weights of each block, `[batch, heads, queries, keys]`.
        tokens: Tokens behind each block, `[batch, tokens, channels]`.
    """

    logits: jax.Array
    weights: tuple[jax.Array, ...]
    tokens: tuple[jax.Array, ...]


class Attention(NamedTuple):
    """Say how the attention of a network is read, see `split.attention`.

    Attributes:
        run: `(variables, images, added=(), apart=False, kept=None) -> Attended`. What
            is `added` to the weights of each block is there to be differentiated by;
            with `apart` no derivative passes from a block to the one before it. Tokens
            that are not `kept`, `[batch, tokens]`, are not attended to.
        leading: Number of tokens before the grid, the class token first.
        classify: `(variables, tokens, added=()) -> logits` of the mean of all tokens,
            or of what attention pools from them by weights to which is `added`; or
            None.
    """

    run: Callable[..., Attended]
    leading: int
    classify: Callable[..., jax.Array] | None = None


class SplitModel(NamedTuple):
    """Hold a classifier cut in two at the layer to explain.

    `features(variables, images) -> Features` and
    `head(variables, features) -> logits`; their composition is the whole network.
    `mean` is the colour, in [0, 1], that the network sees as zero: what "mean"
    baselines and the borders of a blur are made of. Black for a network that
    normalises nothing. `attention` reads the weights of a transformer, `pooling` scores
    the locations of a network that pools by attention, `(variables, images) ->
    [batch, rows, columns, queries]`.
    `run(variables, images) -> logits` is the whole network, not compiled: what
    intercepts modules sees them at each call.
    """

    features: Callable[[Variables, Images], Features]
    head: Callable[[Variables, Features], Logits]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    attention: Attention | None = None
    run: Callable[[Variables, Images], Logits] | None = None
    pooling: Callable[[Variables, Images], jax.Array] | None = None


@runtime_checkable
class Explainer(Protocol):
    """Map images and the labels to explain onto one raw saliency map each.

    Where the network gives an image no numbers, the map has NaN. What `split.guarded`
    refuses is an error; under `jax.jit`, where it cannot be seen, it is NaN.
    """

    def __call__(
        self,
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        key: RandomKey | None = None,
    ) -> Saliency: ...


@runtime_checkable
class Metric(Protocol):
    """Score one saliency map an image; values are named and never averaged.

    NaN and errors are as in an `Explainer`. A map with NaN counts as flat.
    """

    def __call__(
        self,
        variables: Variables,
        images: Images,
        labels: Labels,
        saliency: Saliency,
        *,
        key: RandomKey | None = None,
    ) -> dict[str, jax.Array]: ...
