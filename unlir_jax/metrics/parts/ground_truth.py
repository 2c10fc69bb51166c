"""Agreement of the parts of a part network with true parts.

Keypoints are `[images, k, 3]`: x, y and whether it is visible, in pixels of the image
as the network saw it; its left edge is x = 0, the centre of its first pixel 0.5. One
outside of the image counts as not visible. Left and right keypoints are merged by
name. The best cell of a part is the one with the highest score, the first in row-major
order if several have it; a flat map has none, and counts as a miss.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from unlir_jax.core import choices
from unlir_jax.metrics.localization.boxes import VOID
from unlir_jax.metrics.parts import keypoints as reader
from unlir_jax.metrics.parts.keypoints import Keypoints, KeypointShare
from unlir_jax.metrics.parts.part_maps import (
    Masks,
    Scores,
    check_masks,
    check_scores,
    chunks,
    count_pixels,
)
from unlir_jax.statistics.agreement import (
    adjusted_rand_index,
    normalized_mutual_information,
)

Among = Literal["patches", "visible"]

# PIP-Net's patch in an image of 224 pixels.
PATCH = 32 / 224


def keypoint_share(
    scores: Scores,
    keypoints: Keypoints,
    names: Sequence[str],
    image_size: int,
    *,
    top: int = 30,
) -> KeypointShare:
    """Tell how often the best regions of a part are nearest to the same keypoint.

    For each part: the `top` images in which its best cell scores highest; in each,
    the visible keypoint nearest to the centre of that cell; the share of the most
    frequent one. Images without a visible keypoint are left out before, and where
    there are fewer than `top` others, all of these are taken. Of equally high images,
    equally near or equally frequent keypoints, the first is taken.

    Raises:
        ValueError: Shapes that do not fit, no visible keypoint at all, or values that
            are not finite.
    """
    field = reader.read(scores, keypoints, names, image_size)
    best = reader.best(field.scores)
    chosen = reader.highest(field, best, top)
    centres = reader.centres(field, np.take_along_axis(best.cell, chosen, 0))
    offsets = field.points[chosen] - centres[..., None, :]
    distances = np.where(field.visible[chosen], np.sum(offsets**2, -1), np.inf)
    nearest = field.groups[distances.argmin(-1)]
    counted = ~np.take_along_axis(best.flat, chosen, 0)
    counts = [
        ((nearest == group) & counted).sum(0) for group in range(len(field.merged))
    ]
    pictures = counted.sum(0)
    return reader.most(field, np.stack(counts, -1), pictures[:, None], pictures)


def purity(
    scores: Scores,
    keypoints: Keypoints,
    names: Sequence[str],
    image_size: int,
    *,
    top: int = 10,
    side: float | None = None,
    among: Among = "patches",
) -> KeypointShare:
    """Tell how many of the best patches of a part contain the same keypoint.

    Nauta et al., *PIP-Net: Patch-Based Intuitive Prototypes for Interpretable Image
    Classification*, CVPR 2023, Section 4.

    Args:
        scores: `[images, rows, columns, parts]`.
        keypoints: `[images, k, 3]`.
        names: Names of the k keypoints.
        image_size: Side of the image in pixels.
        top: Number of patches of each part: of the images in which its best cell
            scores highest, chosen as in `keypoint_share`.
        side: Side of a patch in pixels; 32 of 224 if not given.
        among: "patches" divides by all patches; "visible", as the authors' code does,
            by those in whose image the keypoint is visible, so that one seen but once
            may reach 1.

    Raises:
        ValueError: As in `keypoint_share`.

    Note:
        A reconstruction: a patch lies round the centre of the best cell, which near the
        edge is not quite the authors' grid of patches.
    """
    choices.check("among", among, Among)
    field = reader.read(scores, keypoints, names, image_size)
    best = reader.best(field.scores)
    chosen = reader.highest(field, best, top)
    cells = np.take_along_axis(best.cell, chosen, 0)
    counted = ~np.take_along_axis(best.flat, chosen, 0)[..., None]
    inside, seen = reader.inside(
        field, chosen, cells, reader.length(side, PATCH, image_size)
    )
    pictures = counted.sum(0)
    total = pictures if among == "patches" else (seen & counted).sum(0)
    return reader.most(field, (inside & counted).sum(0), total, pictures[:, 0])


def keypoint_labels(
    scores: Scores, keypoints: Keypoints, names: Sequence[str], image_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """List the name and the part of each visible keypoint of all images.

    Returns:
        Which of the merged names it is, and which part has the highest score at the
        cell that contains it, the first if several have; both `[visible]`.

    Raises:
        ValueError: As in `keypoint_share`.
    """
    field = reader.read(scores, keypoints, names, image_size)
    _, rows, columns, parts = field.scores.shape
    image, point = np.nonzero(field.visible)
    x, y = field.points[image, point].T
    # On the right and the lower edge itself a keypoint is in the last cell.
    column = np.minimum((x * columns / image_size).astype(int), columns - 1)
    row = np.minimum((y * rows / image_size).astype(int), rows - 1)
    found = np.empty(len(image), np.int64)
    for some in chunks(len(image), parts):
        found[some] = field.scores[image[some], row[some], column[some]].argmax(-1)
    return field.groups[point], found


def keypoint_nmi(
    scores: Scores, keypoints: Keypoints, names: Sequence[str], image_size: int
) -> float:
    """Give the mutual information of keypoints' names and the parts found there.

    In [0, 1], normalised by the arithmetic mean of the entropies, over all visible
    keypoints of all images; see `keypoint_labels`.
    """
    true, found = keypoint_labels(scores, keypoints, names, image_size)
    return normalized_mutual_information(true, found)


def keypoint_ari(
    scores: Scores, keypoints: Keypoints, names: Sequence[str], image_size: int
) -> float:
    """Give the adjusted Rand index of keypoints' names and the parts found there."""
    true, found = keypoint_labels(scores, keypoints, names, image_size)
    return adjusted_rand_index(true, found)


def mask_labels(
    scores: Scores, masks: Masks, *, background: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """List the true part and the highest-scoring part of each cell of all images.

    The true part is the most frequent value of the pixels whose centre is in the cell,
    the lowest if several are. Void pixels are left out, and cells that are all void.

    Args:
        scores: `[images, rows, columns, parts]`.
        masks: `[images, height, width]`, of the image that the network saw: 0 for the
            background, true parts from 1 on, 255 for void.
        background: Keep the cells that are background, as one more true part.

    Returns:
        Both `[cells]`.

    Raises:
        ValueError: Shapes that do not fit, or only background and void.
    """
    scores = check_scores(scores)
    masks = check_masks(masks, len(scores))
    _, rows, columns, parts = scores.shape
    values = int(masks.max(initial=0, where=masks != VOID)) + 1
    true = np.empty(scores.shape[:3], np.int64)
    found, kept = np.empty_like(true), np.empty_like(true, bool)
    for some in chunks(len(scores), rows * columns * (values + parts)):
        pixels = count_pixels(masks[some], rows, columns, values)
        true[some] = pixels.argmax(-1)
        kept[some] = pixels.any(-1) & (background | (true[some] > 0))
        found[some] = scores[some].argmax(-1)
    if not kept.any():
        raise ValueError(
            "`masks` has no cell that is mostly one part; expected parts from 1 on, "
            "other than 255, which is void, or background=True."
        )
    return true[kept], found[kept]


def mask_nmi(scores: Scores, masks: Masks, *, background: bool = False) -> float:
    """Give the mutual information of true parts and the parts found, over cells.

    In [0, 1], normalised by the arithmetic mean of the entropies; see `mask_labels`.
    """
    return normalized_mutual_information(
        *mask_labels(scores, masks, background=background)
    )
