"""Arithmetic of saliency maps: resize, normalise, mask, and what is left unmasked."""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax.core import choices, random_keys
from unlir_jax.types import Array, Images, Mask, RandomKey, Saliency

Normalization = Literal["range", "max", "sigmoid"]
Signs = Literal["relu", "abs", "range"]
"""What a mask makes of a map's negative values, see `mask`."""
Baseline = Literal["black", "mean", "blur", "noise"]

BLUR_SIZE, BLUR_SIGMA = 11, 5.0
NOISE_DEVIATION = 0.2
LEAST_CONTRAST = 0.1
"""Distance of a mask's deciles below which it is nearly flat."""


def resize(saliency: Saliency, size: tuple[int, ...]) -> jax.Array:
    """Interpolate maps bilinearly with half-pixel centres, without antialiasing.

    The convention of `align_corners=False`, which peers share for enlarging.

    Args:
        saliency: `[batch, rows, columns]`.
        size: Height and width of the result.
    """
    saliency = jnp.asarray(saliency)
    if saliency.ndim != 3:
        raise ValueError(
            f"`saliency` has shape {saliency.shape}; expected [batch, rows, columns]."
        )
    if saliency.shape[1:] == tuple(size):
        return saliency
    return _resized(saliency, tuple(map(int, size)))


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _resized(saliency: jax.Array, size: tuple[int, int]) -> jax.Array:
    down = interpolation(saliency.shape[1], size[0]).astype(saliency.dtype)
    across = interpolation(saliency.shape[2], size[1]).astype(saliency.dtype)
    highest = jax.lax.Precision.HIGHEST
    rows = jnp.einsum("hr,brc->bhc", down, saliency, precision=highest)
    return jnp.einsum("wc,bhc->bhw", across, rows, precision=highest)


@functools.lru_cache(maxsize=256)
def interpolation(source: int, target: int) -> np.ndarray:
    """Weigh `source` samples for each of `target` samples, edges repeated."""
    centres = np.clip(
        (np.arange(target) + 0.5) * source / target - 0.5, 0.0, source - 1.0
    )
    left = np.minimum(np.floor(centres).astype(int), max(source - 2, 0))
    right = np.minimum(left + 1, source - 1)
    matrix = np.zeros((target, source))
    matrix[np.arange(target), left] += 1.0 - (centres - left)
    matrix[np.arange(target), right] += centres - left
    return matrix


def is_flat(saliency: Saliency) -> jax.Array:
    """Tell which maps say nothing: all values equal, or not all of them finite.

    Values that differ by less than 8 roundings of the largest are equal: resizing a
    constant map leaves that much behind.

    Returns:
        Booleans, `[batch]`; their sum is the count that jobs report.
    """
    return _flat(jnp.asarray(saliency))


# Each operation of a call outside `jax.jit` is a program to be compiled; this is one.
@functools.partial(jax.jit, inline=True)
def _flat(saliency: jax.Array) -> jax.Array:
    low, high = jnp.min(saliency, axis=(1, 2)), jnp.max(saliency, axis=(1, 2))
    rounding = 8 * float(jnp.finfo(saliency.dtype).eps)
    least = rounding * jnp.maximum(jnp.abs(low), jnp.abs(high))
    # What is not finite is as useless as flatness. Its least and largest value do not
    # tell: XLA on CPU loses NaN there, see `compilation`.
    finite = jnp.all(jnp.isfinite(saliency), axis=(1, 2)) & jnp.isfinite(high - low)
    return ~((high - low > least) & finite)


def normalize(saliency: Saliency, mode: Normalization = "range") -> jax.Array:
    """Bring each map into [0, 1] on its own (Opti-CAM, Eq. 16-18).

    `range` is `(s - min) / (max - min)`, `max` is `s / max` with negative values
    set to 0, `sigmoid` is `1 / (1 + exp(-s))`. A flat map, or one with a value that
    is not finite, gives zeros in every mode (`is_flat` counts them), and gradients
    through it are zero.

    Raises:
        ValueError: `mode` is unknown.
    """
    choices.check("mode", mode, Normalization)
    return _normalized(jnp.asarray(saliency), mode)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _normalized(saliency: jax.Array, mode: Normalization) -> jax.Array:
    flat = is_flat(saliency)[:, None, None]
    # A harmless ramp stands in for flat maps, so that no gradient meets 0 / 0.
    ramp = jnp.linspace(0.0, 1.0, saliency[0].size, dtype=saliency.dtype)
    safe = jnp.where(flat, ramp.reshape((1, *saliency.shape[1:])), saliency)
    low = jnp.min(safe, axis=(1, 2), keepdims=True)
    high = jnp.max(safe, axis=(1, 2), keepdims=True)
    if mode == "range":
        result = (safe - low) / (high - low)
    elif mode == "max":
        positive = high > 0
        result = jnp.where(
            positive, jnp.maximum(safe, 0) / jnp.where(positive, high, 1), 0
        )
    else:
        result = jax.nn.sigmoid(safe)
    return jnp.where(flat, 0, result)


def mask(saliency: Saliency, size: tuple[int, ...], signs: Signs = "relu") -> jax.Array:
    """Make masks of raw maps, as metrics do: enlarge, treat signs, bring to [0, 1].

    A map has a sign where zero means no effect and negative values count against the
    label, see `ExplainerSpec.signed`. By its range alone, zero becomes grey there, and
    the mask keeps half of everything.

    Args:
        saliency: `[batch, rows, columns]`.
        size: Height and width of the images.
        signs: `relu` sets negative values to 0, `abs` takes magnitudes, and `range`
            changes nothing: it is for maps whose zero means nothing. Then
            `(s - min) / (max - min)`. For maps without negative values all three are
            the same.

    Returns:
        `[batch, *size]` in [0, 1]; zeros for a map without contrast.

    Raises:
        ValueError: `signs` is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import maps
        >>> saliency = jnp.asarray([[[-4.0, 0.0, 2.0, 4.0]]])
        >>> maps.mask(saliency, (1, 4), "relu")[0, 0].tolist()
        [0.0, 0.0, 0.5, 1.0]
        >>> maps.mask(saliency, (1, 4), "range")[0, 0].tolist()
        [0.0, 0.5, 0.75, 1.0]
    """
    choices.check("signs", signs, Signs)
    return _mask(jnp.asarray(saliency), tuple(map(int, size)), signs)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _mask(saliency: jax.Array, size: tuple[int, int], signs: Signs) -> jax.Array:
    enlarged = resize(saliency, size)
    if signs == "relu":
        # NaN and infinities stay: a map that has some is flat.
        below = (enlarged < 0) & (enlarged > -jnp.inf)
        enlarged = jnp.where(below, 0, enlarged)
    elif signs == "abs":
        enlarged = jnp.abs(enlarged)
    return normalize(enlarged, "range")


def top(saliency: Saliency, share: float) -> jax.Array:
    """Mark the highest pixels of each map, booleans `[batch, rows, columns]`.

    Their number is `share` of the pixels, rounded, and at least 1. Of equal pixels the
    first ones count. Pixels as low as the lowest never count, so a map of zeros with
    few peaks has fewer. A flat map has none.

    Args:
        saliency: `[batch, rows, columns]`.
        share: Between 0 and 1.

    Raises:
        ValueError: `share` is not between 0 and 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import maps
        >>> maps.top(jnp.asarray([[[3.0, 1.0, 2.0, 0.0]]]), 0.5).astype(int).tolist()
        [[[1, 0, 1, 0]]]
    """
    if not 0 < share < 1:
        raise ValueError(f"`share`={share}; expected a share between 0 and 1.")
    return _top(jnp.asarray(saliency), float(share))


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _top(saliency: jax.Array, share: float) -> jax.Array:
    flat = is_flat(saliency)[:, None]
    rows = jnp.where(flat, 0, saliency.reshape((len(saliency), -1)))
    count = max(1, round(share * rows.shape[1]))
    order = jax.lax.top_k(rows, count)[1]
    chosen = jax.vmap(lambda own: jnp.zeros(rows.shape[1], bool).at[own].set(True))
    above = rows > jnp.min(rows, axis=1, keepdims=True)
    return (chosen(order) & above).reshape(saliency.shape)


def is_nearly_flat(mask: Mask) -> np.ndarray:
    """Tell which masks hardly differ from a grey image: deciles less than 0.1 apart.

    The 10th and the 90th percentile of its pixels are compared. Such a mask dims the
    whole image alike, or hides all but a few pixels, so that drop and gain say nothing
    about where it marks what.

    Args:
        mask: `[batch, height, width]` in [0, 1], see `mask`.

    Returns:
        Booleans, `[batch]`.
    """
    low, high = np.percentile(np.asarray(mask, np.float32), (10, 90), axis=(1, 2))
    return high - low < LEAST_CONTRAST


def apply_mask(
    images: Images, mask: Mask, background: Images | None = None
) -> jax.Array:
    """Keep what the mask marks: `images * mask + background * (1 - mask)`.

    Masking happens on pixels in [0, 1], before the network's own normalisation.

    Args:
        images: `[batch, height, width, channels]`.
        mask: `[batch, height, width]` in [0, 1].
        background: What shows where the mask is 0; black without it.
    """
    mask = jnp.asarray(mask)
    images = jnp.asarray(images)
    if mask.shape != images.shape[:3]:
        raise ValueError(
            f"`mask` has shape {mask.shape}; expected {images.shape[:3]}, the images' "
            "own size: use maps.resize and maps.normalize first."
        )
    mask = mask[..., None]
    kept = images * mask
    return kept if background is None else kept + background * (1 - mask)


def background(
    images: Images,
    kind: Baseline = "black",
    *,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    key: RandomKey | None = None,
) -> jax.Array:
    """Make the image that stands for "nothing there".

    Args:
        images: `[batch, height, width, channels]` in [0, 1].
        kind: `black` is zeros; `mean` is the colour `mean`; `blur` is the image under
            an 11 x 11 Gaussian of standard deviation 5, as the RISE authors use, whose
            border sees the colour `mean`; `noise` is `mean` plus Gaussian noise of
            standard deviation 0.2, clipped to [0, 1], drawn for each image from `key`.
        mean: The colour that the network sees as zero (`SplitModel.mean`).
        key: Needed by `noise` only.

    Raises:
        ValueError: `kind` is unknown, or `noise` without a key.
    """
    images = jnp.asarray(images)
    # Black is the colour of images of any number of channels.
    colour = jnp.asarray(mean if any(mean) else 0, images.dtype).reshape((1, 1, 1, -1))
    if kind == "black":
        return jnp.zeros_like(images)
    if kind == "mean":
        return jnp.broadcast_to(colour, images.shape)
    if kind == "blur":
        return _blur(images - colour) + colour
    if kind == "noise":
        drawn = jax.vmap(lambda k: jax.random.normal(k, images.shape[1:], images.dtype))
        noise = drawn(random_keys.per_image(key, images))
        return jnp.clip(colour + NOISE_DEVIATION * noise, 0, 1)
    raise ValueError(
        f"`kind`={kind!r} is unknown; expected one of {get_args(Baseline)}."
    )


def blur_kernel() -> np.ndarray:
    """Give the one-dimensional kernel, `[11]` with sum 1, of the `blur` baseline.

    RISE blurs with a discrete impulse filtered by a Gaussian whose tails, cut at 4 std,
    are reflected back into the 11 samples.
    """
    radius = int(4 * BLUR_SIGMA + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / BLUR_SIGMA) ** 2)
    position = np.mod(BLUR_SIZE // 2 + offsets, 2 * BLUR_SIZE)
    folded = np.where(position < BLUR_SIZE, position, 2 * BLUR_SIZE - 1 - position)
    return np.bincount(folded, weights / weights.sum(), minlength=BLUR_SIZE)


def _blur(images: jax.Array) -> jax.Array:
    """Filter along both axes with zeros beyond the border."""
    kernel = blur_kernel()
    margin = BLUR_SIZE // 2
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (margin, margin)
        padded = jnp.pad(images, pad)
        length = images.shape[axis]
        images = sum(
            (
                float(weight) * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
                for i, weight in enumerate(kernel)
            ),
            start=jnp.zeros_like(images),
        )
    return images


def luminance(images: Array) -> jax.Array:
    """Weigh the channels as ITU-R BT.601 does: `[batch, height, width]`.

    Images that do not have three channels get the mean of theirs.
    """
    images = jnp.asarray(images)
    if images.shape[-1] != 3:
        return jnp.mean(images, axis=-1)
    weights = jnp.asarray((0.299, 0.587, 0.114), images.dtype)
    return jnp.einsum("bhwc,c->bhw", images, weights, precision="highest")


def of_finite(saliency: Saliency, values: jax.Array) -> jax.Array:
    """Give NaN for what is said of a map that is not finite.

    Args:
        saliency: Maps that a metric made itself, so that nobody has counted them.
        values: What it found, `[batch]`.
    """
    finite = jnp.all(jnp.isfinite(saliency), axis=(1, 2))
    return jnp.where(finite, values, jnp.nan)


def check_saliency(saliency: Saliency, images: Images) -> None:
    """Refuse maps that do not belong to these images.

    Raises:
        TypeError: No array, or one that is not floating point.
        ValueError: The shape is not one map `[rows, columns]` an image.
    """
    if not isinstance(saliency, np.ndarray | np.generic | jax.Array):
        raise TypeError(
            f"`saliency` is a {type(saliency).__name__}; expected an array [batch, "
            "rows, columns], of NumPy or JAX."
        )
    if not jnp.issubdtype(saliency.dtype, jnp.floating):
        raise TypeError(
            f"`saliency` is an array of {saliency.dtype}; expected floating point: "
            "astype(np.float32) makes a map of a mask or of whole numbers."
        )
    shape, count = jnp.shape(saliency), jnp.shape(images)[0]
    if len(shape) != 3 or shape[0] != count or not all(shape):
        raise ValueError(
            f"`saliency` has shape {shape}; expected [batch, rows, columns], each at "
            f"least 1, with one map for each of the {count} images."
        )
