"""Correct localisation: images whose best box of a class lies on an object of it."""

from collections.abc import Sequence

import numpy as np

from unlir_jax.detection import matching
from unlir_jax.detection.matching import Detections, Objects


def corloc(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    *,
    classes: int,
    overlap: float = 0.5,
) -> np.ndarray:
    """Compute the share of images whose best box overlaps an object (CorLoc).

    For each class, the images with an object of it count. Such an image is right if
    its box of highest score, the first of equal ones, overlaps one of its objects. An
    image without a box of the class is wrong.

    Args:
        detections: What was detected, one entry an image.
        objects: What is there, in the same order. Ignored objects are left out.
        classes: Number of classes.
        overlap: Least intersection over union, in (0, 1].

    Returns:
        Float64 `[classes]` in [0, 1], NaN for a class that no image has.

    Raises:
        ValueError: Detections and objects that cannot be compared, or a wrong overlap.

    References:
        Deselaers, Alexe and Ferrari, *Weakly supervised localization and learning with
        generic knowledge*, 2012.

    Example:
        >>> import numpy as np
        >>> from unlir_jax import detection
        >>> box, label = np.asarray([[0, 0, 4, 4]]), np.asarray([0])
        >>> found = detection.Detections(box, np.asarray([0.9]), label)
        >>> objects = [detection.Objects(box, label), detection.Objects(box + 9, label)]
        >>> detection.corloc([found, found], objects, classes=1).tolist()
        [0.5]
    """
    if not 0 < overlap <= 1:
        raise ValueError(f"`overlap`={overlap}; expected a value in (0, 1].")
    matching.check(detections, objects, classes)
    found = np.full(classes, np.nan)
    for label in range(classes):
        right = []
        for guess, there in zip(detections, objects, strict=True):
            own = (np.asarray(there.labels) == label) & ~matching.ignored_of(there)
            if not own.any():
                continue
            best, _ = matching.best_first(guess, label, 1)
            table = matching.overlap(best, np.asarray(there.boxes)[own])
            right.append((table >= overlap).any())
        if right:
            found[label] = np.mean(right)
    return found
