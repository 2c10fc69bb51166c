"""Occlusion: what the score loses when a window hides a part of the image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import loops, memoize
from unlir_jax.saliency.perturbation import mask_passes
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, Saliency, SplitModel

Sides = int | tuple[int, int]
WINDOWS = 8


@explainer(
    title="Occlusion",
    family="perturbation",
    formula="loss of score while a window is hidden",
    passes="1 + 1 a window",
    source="Zeiler and Fergus, ECCV 2014",
    quick={"window": 4, "stride": 4},
    representative=True,
    signed=True,
)
def occlusion(
    model: SplitModel,
    *,
    window: Sides | None = None,
    stride: Sides | None = None,
    baseline: maps.Baseline = "mean",
    score: scores.ScoreLike = "logit",
    batch_size: int = 32,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Slide a window over the image, and mark how much the score drops under it.

    A pixel gets the mean drop, `score(image) - score(occluded image)`, over the windows
    that hide it. One pass a window and one for the image itself.

    Args:
        model: The cut network; where it is cut makes no difference.
        window: Side of the window in pixels, or its height and width; an eighth of
            each side of the image without it.
        stride: Step between windows in pixels, or down and across; half a window
            without it. The last window of a row or column is cut off by the border.
        baseline: What the window shows, see `maps.background`; the explainer needs
            `key` for `noise`.
        score: Score to explain, see `scores.resolve`.
        batch_size: Occluded images that go through the network at once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Raises:
        ValueError: A window or stride below 1, or a stride that leaves pixels out.

    References:
        Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV
        2014, Section 4.2, where the window is grey.

    Note:
        The paper draws the score itself at the window's centre; the drop, averaged
        where windows overlap, has the size of the image, as in captum.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import saliency, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> images = jnp.zeros((1, 2, 2, 3)).at[0, 0, 1, 2].set(1)  # A blue pixel.
        >>> blue = jnp.asarray([2])
        >>> explain = saliency.occlusion(model, window=1, stride=1)
        >>> explain({}, images, blue)[0].tolist()
        [[0.0, 0.25], [0.0, 0.0]]
    """
    _check(window, stride)
    mask_passes.check_baseline(baseline)
    make = _windows(window, stride)
    explained = scores.resolve(score)
    program = mask_passes.compiled(model, explained, make)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        down, across = _coverage(images.shape[1:3], window, stride)
        own = (mask_passes.background(images, baseline, model.mean, key),)
        scores = mask_passes.score(
            *(program, len(down) * len(across) + 1, batch_size),
            *(variables, images, labels, *own),
            loop=loop,
        )
        drops = scores[:, -1:] - scores[:, :-1]
        drops = drops.reshape((len(images), len(down), len(across)))
        return _spread(drops, down.astype(drops.dtype), across.astype(drops.dtype))

    return explain


def windows(
    size: tuple[int, int], window: Sides | None = None, stride: Sides | None = None
) -> int:
    """Count the windows that `occlusion` hides in an image of a size."""
    down, across = _coverage(size, window, stride)
    return len(down) * len(across)


@jax.jit
def _spread(drops: jax.Array, down: jax.Array, across: jax.Array) -> Saliency:
    """Average over the windows that hide a pixel."""
    down = down / jnp.sum(down, axis=0, keepdims=True)
    across = across / jnp.sum(across, axis=0, keepdims=True)
    rows = jnp.einsum("brc,rh->bhc", drops, down, precision="highest")
    return jnp.einsum("bhc,cw->bhw", rows, across, precision="highest")


@memoize.remember
def _windows(window: Sides | None, stride: Sides | None) -> mask_passes.MakeMasks:
    """Make masks that hide one window each; the last one hides nothing."""

    def make(size: tuple[int, int], numbers: jax.Array) -> jax.Array:
        down, across = _coverage(size, window, stride)
        row, column = numbers // len(across), numbers % len(across)
        # The number after the last window is that of the image itself.
        hides = (numbers < len(down) * len(across))[:, None, None]
        row = jnp.minimum(row, len(down) - 1)
        inside = (
            jnp.asarray(down)[row][:, :, None] * jnp.asarray(across)[column][:, None]
        )
        return jnp.where(hides, 1 - inside, 1)

    return make


@functools.lru_cache(maxsize=64)
def _coverage(
    size: tuple[int, int], window: Sides | None, stride: Sides | None
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which pixels each window covers: `[windows, height]`, `[windows, width]`."""
    covers = []
    for axis in (0, 1):
        length = size[axis]
        wide = -(-length // WINDOWS) if window is None else _side(window, axis)
        wide = min(wide, length)
        step = max(wide // 2, 1) if stride is None else _side(stride, axis)
        starts = np.arange(-(-(length - wide) // step) + 1) * step
        places = np.arange(length)[None] - starts[:, None]
        covers.append(((places >= 0) & (places < wide)).astype(np.float32))
    return covers[0], covers[1]


def _side(sides: Sides, axis: int) -> int:
    return sides if isinstance(sides, int) else sides[axis]


def _check(window: Sides | None, stride: Sides | None) -> None:
    for name, sides in (("window", window), ("stride", stride)):
        if sides is not None and min(_side(sides, 0), _side(sides, 1)) < 1:
            raise ValueError(f"`{name}`={sides}; expected 1 pixel or more.")
    if window is None or stride is None:
        return
    if any(_side(stride, axis) > _side(window, axis) for axis in (0, 1)):
        raise ValueError(
            f"`stride`={stride} is more than `window`={window}, so that some pixels "
            "are never hidden; expected at most the window."
        )
