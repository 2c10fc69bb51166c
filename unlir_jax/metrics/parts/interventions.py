"""Claims of a model about a part, compared with the effect of its removal.

With true parts, as in `data.interventions`: `removal_effects` measures, and
`claimed_effects` reads the model's own additive explanation; `agreement` compares the
two. With real images: `keypoint_removal` and `region_deletion`.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from unlir_jax import maps, split
from unlir_jax.core import loops, memoize, random_keys
from unlir_jax.metrics.parts import part_maps
from unlir_jax.metrics.parts.part_maps import Masks
from unlir_jax.statistics import significance
from unlir_jax.types import Array, Images, Labels, Logits, Variables

Effects = Float[Array, "batch parts"]
"""How much each part raises the logit of the label."""

Regions = Bool[Array, "batch height width"]
Fill = Literal["ring"] | tuple[float, float, float]
GREY = (0.5, 0.5, 0.5)


class Agreement(NamedTuple):
    """Hold how well claims and measurements are ordered alike.

    Attributes:
        per_image: Mean over images of Spearman's correlation over the parts present;
            the interval is over images.
        pooled: Spearman's correlation over all parts of all images that count; the
            interval draws whole images.
        correlations: The correlation of each image that counts, `[per_image.n]`.
        left_out: Number of images with too few parts present.
        constant: Number of images, among those that count, in which all claims or all
            measurements are equal: their correlation is 0.
    """

    per_image: significance.Interval
    pooled: significance.Interval
    correlations: np.ndarray
    left_out: int
    constant: int


def removal_effects(
    logits_with: Logits,
    logits_without: Float[Array, "batch parts classes"],
    labels: Labels,
) -> np.ndarray:
    """Give how far the logit of the label falls when a part is taken away.

    Args:
        logits_with: `[batch, classes]` of the whole images.
        logits_without: `[batch, parts, classes]` of the images without each part.
        labels: `[batch]`.

    Returns:
        `[batch, parts]`, with minus without: positive where the part supports the
        label.

    Raises:
        ValueError: Shapes that do not fit, a label that is no class, or a logit that is
            not finite.
    """
    whole = np.asarray(logits_with, np.float64)
    without = np.asarray(logits_without, np.float64)
    labels = np.asarray(labels)
    fits = whole.ndim == 2 and without.ndim == 3
    if not fits or whole.shape != (len(without), without.shape[-1]):
        raise ValueError(
            f"`logits_with` and `logits_without` have shapes {whole.shape} and "
            f"{without.shape}; expected [batch, classes] and [batch, parts, classes]."
        )
    if labels.shape != whole.shape[:1]:
        raise ValueError(
            f"`labels` has shape {labels.shape}; expected {whole.shape[:1]}, one class "
            "an image."
        )
    split.check_labels(labels, whole.shape[1])
    part_maps.check_finite("logits_with", whole)
    part_maps.check_finite("logits_without", without)
    with_part = np.take_along_axis(whole, labels[:, None], 1)
    return with_part - np.take_along_axis(without, labels[:, None, None], 2)[..., 0]


def claimed_effects(
    contributions: Float[Array, "batch rows columns"],
    masks: Masks,
    parts: int,
    *,
    background: bool = False,
) -> np.ndarray:
    """Add up what a model says of the cells of each true part.

    Args:
        contributions: Contribution of each cell to the label's logit, signed: the
            model's own additive explanation.
        masks: `[batch, height, width]`, true parts from 1 on, 0 for the background and
            255 for void, which gets no share of a cell.
        parts: Number of true parts.
        background: Whether the background gets its share of a cell. Otherwise a cell is
            divided among the parts in it by their pixels, however few, and only cells
            without any part are left out.

    Returns:
        `[batch, parts]`.

    Raises:
        ValueError: Shapes that do not fit, or a value that is not finite.
    """
    values = np.asarray(contributions)
    if values.ndim != 3:
        raise ValueError(
            f"`contributions` has shape {values.shape}; expected [batch, rows, "
            "columns]."
        )
    part_maps.check_finite("contributions", values)
    masks = part_maps.check_masks(masks, len(values))
    rows, columns = values.shape[1:]
    result = np.empty((len(values), parts))
    for some in part_maps.chunks(len(values), rows * columns * (parts + 1)):
        pixels = part_maps.count_pixels(masks[some], rows, columns, parts + 1)
        total = pixels[..., 0 if background else 1 :].sum(-1, keepdims=True)
        shares = pixels[..., 1:] / np.maximum(total, 1)
        result[some] = np.einsum("brc,brcp->bp", values[some], shares)
    return result


def agreement(
    claimed: Effects,
    measured: Effects,
    present: Bool[Array, "batch parts"],
    *,
    fewest: int = 3,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Compare the order of claimed and measured effects of parts.

    Parts that are not present are left out whatever their values, and images with fewer
    than `fewest` parts present are left out and counted.

    Args:
        claimed: See `claimed_effects`.
        measured: See `removal_effects`.
        present: Whether each part can be seen.
        fewest: Parts that an image must have, at least 2.
        confidence: Coverage of the intervals.
        seed: Seed of the intervals' draws.

    Raises:
        ValueError: Shapes that do not fit, an effect of a present part that is not
            finite, or no image that counts.
    """
    one, other = np.asarray(claimed), np.asarray(measured)
    there = np.asarray(present, bool)
    if one.ndim != 2 or not one.shape == other.shape == there.shape:
        raise ValueError(
            f"`claimed`, `measured` and `present` have shapes {one.shape}, "
            f"{other.shape} and {there.shape}; expected [batch, parts] for all."
        )
    if fewest < 2:
        raise ValueError(f"`fewest`={fewest}; expected at least 2 parts to compare.")
    counted = there.sum(1) >= fewest
    if not counted.any():
        raise ValueError(
            f"`present` has at most {there.sum(1).max(initial=0)} parts in an image; "
            f"expected an image with {fewest}."
        )
    found = [
        significance.spearman(one[index, there[index]], other[index, there[index]])
        for index in np.flatnonzero(counted)
    ]
    correlations = np.asarray([each.value for each in found])
    kept = there & counted[:, None]
    return Agreement(
        significance.bootstrap(correlations, confidence=confidence, seed=seed),
        significance.spearman_interval(
            one[kept],
            other[kept],
            groups=np.nonzero(kept)[0],
            confidence=confidence,
            seed=seed,
        ),
        correlations,
        int(np.count_nonzero(~counted)),
        sum(each.constant for each in found),
    )


def keypoint_removal(
    images: Images,
    keypoints: Float[Array, "batch k 3"],
    radius: float,
    fill: Fill = "ring",
) -> np.ndarray:
    """Paint a disc over each keypoint in the colour of what is around it.

    Args:
        images: `[batch, height, width, channels]`.
        keypoints: x, y, visible in pixels, see `parts`: those to remove together, such
            as `keypoints[:, groups == index]` after `parts.merge_sides`. One that is
            not visible, or lies outside, removes nothing.
        radius: Radius of the disc in pixels; pixels are in it by their centres.
        fill: The colour, or "ring" for the mean of the pixels within two radii that no
            disc covers; where there are none, the mean of all that no disc covers.

    Returns:
        Images of the same type. A pixel in several discs is painted for the nearest.

    Raises:
        ValueError: Shapes that do not fit, a radius that is not positive, an unknown
            `fill`, or discs that cover an image altogether.
    """
    pictures, points = np.array(images), np.asarray(keypoints, np.float64)
    fits = pictures.ndim == 4 and points.ndim == 3
    if not fits or len(points) != len(pictures) or points.shape[-1] != 3:
        raise ValueError(
            f"`images` and `keypoints` have shapes {pictures.shape} and "
            f"{points.shape}; expected [batch, height, width, channels] and "
            "[batch, k, 3]."
        )
    if not 0 < radius < np.inf:
        raise ValueError(f"`radius`={radius}; expected a number of pixels above 0.")
    if isinstance(fill, str) and fill != "ring":
        raise ValueError(f"`fill`={fill!r} is unknown; expected 'ring' or a colour.")
    edge = pictures.shape[2], pictures.shape[1]
    for picture, some in zip(pictures, points, strict=True):
        inside = ((some[:, :2] >= 0) & (some[:, :2] <= edge)).all(-1)
        shown = some[inside & (some[:, 2] > 0), :2]
        if len(shown):
            _paint(picture, shown, radius, fill)
    return pictures


def _paint(picture: np.ndarray, points: np.ndarray, radius: float, fill: Fill) -> None:
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    distances = np.hypot(x - points[:, :1, None], y - points[:, 1:, None])
    nearest, covered = distances.argmin(0), distances.min(0) <= radius
    if covered.all():
        raise ValueError(
            f"`radius`={radius} covers an image of {picture.shape[1]} x "
            f"{picture.shape[0]} pixels altogether; expected some of it to stay."
        )
    original = picture.copy()
    for index, distance in enumerate(distances):
        ring = (distance <= 2 * radius) & ~covered
        around = original[ring if ring.any() else ~covered].mean(0, dtype=np.float64)
        colour = around if fill == "ring" else fill
        picture[covered & (nearest == index)] = colour


@memoize.remember
def region_deletion(
    network: Callable[[Variables, Images], Logits],
    *,
    baseline: maps.Baseline = "mean",
    mean: tuple[float, ...] = GREY,
    draws: int = 4,
    loop: loops.Loop = "auto",
) -> Callable[..., dict[str, jax.Array]]:
    """Compare the deletion of a region with that of random regions of the same shape.

    A random region is the region moved by a random offset, which differs from none and
    is drawn for each image from `key`; what leaves the image on one side enters on
    the other, so that shape and area stay.

    Args:
        network: `(variables, images) -> logits`, such as `split.whole(model)`.
        baseline: What replaces a region; see `maps.background`.
        mean: The colour of the baselines, such as the model's own `mean`.
        draws: Number of random regions, whose drops are averaged.
        loop: `auto`, `host` or `device`; see `loops.place`.

    Returns:
        `score(variables, images, labels, regions, *, key)` with bool regions `[batch,
        height, width]`, giving `region_drop` and `random_drop`, `[batch]`: how far the
        label's softmax probability falls, in [-1, 1]. An empty region drops nothing.
    """
    if draws < 1:
        raise ValueError(f"`draws`={draws}; expected 1 or more random regions.")

    probability, elsewhere = _deletions(network)

    def score(variables, images, labels, regions, *, key=None):
        _check_regions(images, labels, regions)
        logits = jax.eval_shape(network, variables, images)
        split.check_labels(labels, logits.shape[-1])
        image_keys = random_keys.per_image(key, images)
        background = maps.background(images, baseline, mean=mean, key=key)
        images, labels, regions = map(jnp.asarray, (images, labels, regions))
        first, last = (variables, images, labels), (background, image_keys)
        nothing = jnp.zeros_like(regions)
        clean = probability(*first, nothing, background)
        deleted = probability(*first, regions, background)
        moved = loops.map_steps(
            elsewhere, jnp.arange(draws), *first, regions, *last, loop=loop
        )
        return {
            "region_drop": clean - deleted,
            "random_drop": clean - jnp.mean(moved, axis=0),
        }

    return score


@memoize.remember
def _deletions(
    network: Callable[[Variables, Images], Logits],
) -> tuple[Callable[..., jax.Array], Callable[..., jax.Array]]:
    """Compile the label's probability without a region, and without one moved."""

    @jax.jit
    def probability(variables, images, labels, regions, background):
        deleted = jnp.where(regions[..., None], background, images)
        chances = jax.nn.softmax(network(variables, deleted))
        return jnp.take_along_axis(chances, labels[:, None], axis=1)[:, 0]

    @jax.jit
    def elsewhere(draw, variables, images, labels, regions, background, image_keys):
        moved = jax.vmap(lambda key, region: _move(region, key, draw))
        regions = moved(image_keys, regions)
        return probability(variables, images, labels, regions, background)

    return probability, elsewhere


def _move(region: jax.Array, key: jax.Array, draw: jax.Array) -> jax.Array:
    """Move a region by a random offset that is not zero, round the edges."""
    width = region.shape[1]
    # Offset 0 would delete the region itself; an image of one pixel has no other.
    offset = jax.random.randint(
        jax.random.fold_in(key, draw), (), min(1, region.size - 1), region.size
    )
    down = jnp.roll(region, offset // width, axis=0)
    return jnp.roll(down, offset % width, axis=1)


def _check_regions(images: Images, labels: Labels, regions: Regions) -> None:
    split.check_shapes(images, labels)
    if not jnp.issubdtype(jnp.result_type(regions), jnp.bool_):
        raise TypeError(
            f"`regions` are {jnp.result_type(regions)}; expected booleans, True where "
            "a pixel is deleted."
        )
    if jnp.shape(regions) != jnp.shape(images)[:3]:
        raise ValueError(
            f"`regions` has shape {jnp.shape(regions)}; expected "
            f"{jnp.shape(images)[:3]}, the images' own size."
        )
