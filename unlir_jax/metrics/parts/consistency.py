"""Consistency of the keypoints in the region of a part, and their stability to noise.

Huang et al., *Evaluation and Improvement of Interpretability for Self-Explainable
Part-Prototype Networks*, ICCV 2023, Section 3. Keypoints are as in `parts`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from unlir_jax.metrics.parts import keypoints as reader
from unlir_jax.metrics.parts.keypoints import Keypoints
from unlir_jax.metrics.parts.part_maps import Scores, check_scores
from unlir_jax.types import Array

# Side of the region, in an image of 224 pixels.
REGION = 72 / 224


class Consistency(NamedTuple):
    """Hold whether each part always marks the same keypoint.

    Attributes:
        consistent: `[parts]`, 0 or 1; its mean is the figure.
        share: `[parts]`, of the images that show the keypoint it marks most reliably.
        keypoint: Merged name for each part; empty if it marks none.
    """

    consistent: np.ndarray
    share: np.ndarray
    keypoint: tuple[str, ...]


def consistency(
    scores: Scores,
    keypoints: Keypoints,
    names: Sequence[str],
    image_size: int,
    *,
    side: float | None = None,
    threshold: float = 0.8,
    counted: Bool[Array, "images parts"] | None = None,
) -> Consistency:
    """Tell which parts have the same keypoint in their region in nearly all images.

    Huang et al., *Evaluation and Improvement of Interpretability for Self-Explainable
    Part-Prototype Networks*, ICCV 2023, Section 3.

    Args:
        scores: `[images, rows, columns, parts]`.
        keypoints: `[images, k, 3]`.
        names: Names of the k keypoints.
        image_size: Side of the image in pixels.
        side: Side of the square region round the best cell's centre, with its edges; 72
            of 224 pixels if not given.
        threshold: In which share of the images that show a keypoint it must be in the
            region.
        counted: Which images count for each part, such as images of its class, to
            which the authors keep; all if not given.

    Raises:
        ValueError: As in `keypoint_share`.

    Note:
        A reconstruction: the authors find the region on the map enlarged to pixels, and
        do not merge left and right. As with them, one image with a keypoint is enough
        for the share of it to be 1.
    """
    field = reader.read(scores, keypoints, names, image_size)
    best, side = reader.best(field.scores), reader.length(side, REGION, image_size)
    if counted is None:
        use = np.ones(best.flat.shape, bool)
    else:
        use = np.asarray(counted, bool)
    if use.shape != best.flat.shape:
        raise ValueError(
            f"`counted` has shape {use.shape}; expected {best.flat.shape}, [images, "
            "parts]."
        )
    counts = np.zeros((use.shape[1], len(field.merged)), np.int64)
    total = np.zeros_like(counts)
    for chosen, some in reader.everything(field):
        inside, seen = reader.inside(field, chosen, best.cell[some], side)
        inside &= ~best.flat[some][..., None]
        counts += (inside & use[some][..., None]).sum(0)
        total += (seen & use[some][..., None]).sum(0)
    found = reader.most(field, counts, total, counts.sum(-1))
    consistent = (found.share >= threshold) & (found.share > 0)
    return Consistency(consistent.astype(float), found.share, found.keypoint)


def stability(
    scores: Scores,
    noisy_scores: Scores,
    keypoints: Keypoints,
    names: Sequence[str],
    image_size: int,
    *,
    side: float | None = None,
) -> np.ndarray:
    """Tell how often noise leaves the keypoints in the region of a part as they are.

    Huang et al., ICCV 2023, Section 3; see `consistency`. The authors' noise is normal
    with standard deviation 0.2, clipped to 0.25 either way, on images with mean 0 and
    standard deviation 1.

    Args:
        scores: `[images, rows, columns, parts]` of the images.
        noisy_scores: The same of the images with noise.
        keypoints: `[images, k, 3]`.
        names: Names of the k keypoints.
        image_size: Side of the image in pixels.
        side: See `consistency`.

    Returns:
        `[parts]`, the share of the images; its mean is the figure.

    Raises:
        ValueError: As in `keypoint_share`.

    Note:
        A reconstruction as `consistency`. As with the authors, a region that is without
        keypoints before and after is stable: a part of the background may reach 1.
    """
    field = reader.read(scores, keypoints, names, image_size)
    noisy = check_scores(noisy_scores, "noisy_scores")
    if noisy.shape != field.scores.shape:
        raise ValueError(
            f"`noisy_scores` has shape {noisy.shape}; expected {field.scores.shape} as "
            "`scores` has."
        )
    before, after = reader.best(field.scores), reader.best(noisy)
    side = reader.length(side, REGION, image_size)
    same = np.zeros(noisy.shape[-1])
    for chosen, some in reader.everything(field):
        one, _ = reader.inside(field, chosen, before.cell[some], side)
        other, _ = reader.inside(field, chosen, after.cell[some], side)
        flat = before.flat[some] | after.flat[some]
        same += ((one == other).all(-1) & ~flat).sum(0)
    return same / len(noisy)
