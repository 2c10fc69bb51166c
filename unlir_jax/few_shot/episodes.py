"""Draws of training images, the same ones for every method."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from unlir_jax.types import Array


def draw(
    labels: Integer[Array, " pictures"],
    shots: int,
    number: int,
    ways: int = 0,
    names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Draw some images of each class.

    A draw is a function of its number, and of the order of the images in a class: a
    draw of fewer shots is a part of that of more, and every method gets the same.

    Args:
        labels: Labels of all images that may be drawn.
        shots: Images of each class, the k.
        number: Number of the draw.
        ways: Number of classes, drawn as well; 0: all.
        names: Names of the classes, for messages.

    Returns:
        The images, class by class, and the classes, in order.

    Raises:
        ValueError: More shots than a class has images, or more ways than classes.
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    if not 0 <= ways <= len(classes):
        raise ValueError(
            f"`ways`={ways} of {len(classes)} classes; expected 0 for all, or 1 to "
            f"{len(classes)}."
        )
    if ways:
        random = np.random.default_rng([number, 1])
        classes = np.sort(random.permutation(classes)[:ways])
    counts = {int(c): int(np.count_nonzero(labels == c)) for c in classes}
    fewest = min(counts, key=lambda c: counts[c])
    if not 1 <= shots <= counts[fewest]:
        name = repr(names[fewest]) if names else fewest
        raise ValueError(
            f"`k`={shots} images of each class, but class {name} has "
            f"{counts[fewest]}; expected 1 to {counts[fewest]}."
        )
    drawn = []
    for label in classes.tolist():
        random = np.random.default_rng([number, 0, label])
        drawn.append(random.permutation(np.flatnonzero(labels == label))[:shots])
    return np.concatenate(drawn), classes


def others(
    size: int, chosen: Integer[Array, " drawn"], count: int | None, number: int
) -> np.ndarray:
    """Draw images besides those that were drawn, whatever their classes.

    Args:
        size: Number of all images.
        chosen: Places of those that are taken already.
        count: How many; None: all that are left.
        number: Number of the draw.

    Raises:
        ValueError: So many are not left.
    """
    left = size - len(np.unique(chosen))
    if count is not None and not 0 <= count <= left:
        raise ValueError(
            f"`unlabelled`={count}, but {left} images of the training split are left "
            f"beside those that are drawn; expected 0 to {left}, or all."
        )
    random = np.random.default_rng([number, 2])
    order = random.permutation(size)
    return order[~np.isin(order, chosen)][:count]
