"""Scenes with several synthetic animals, their boxes and their classes."""

from typing import NamedTuple

import numpy as np

from unlir_jax.data import synthetic_parts

CLASSES = 4
MOST_ANIMALS = 3
TRIES = 20
SPLITS = ("train", "validation", "test")
# Shares of the image that a drawing of one animal takes.
SMALLEST, LARGEST = 0.55, 0.85


class Scene(NamedTuple):
    """Hold one image and the animals in it.

    Attributes:
        image: uint8 `[size, size, 3]`.
        boxes: float32 `[animals, 4]`, `x0, y0, x1, y1`, half-open, round all pixels of
            each animal.
        labels: The class of each animal, int64 `[animals]`.
        mask: uint8 `[size, size]`: 0 for the background, class `c` as `c + 1`.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    mask: np.ndarray


def draw_scene(
    split: str,
    index: int,
    *,
    seed: int = 0,
    image_size: int = 96,
    classes: int = CLASSES,
    most: int = MOST_ANIMALS,
) -> Scene:
    """Draw 1 to `most` animals whose boxes do not meet, on one background.

    Args:
        split: "train", "validation" or "test"; no two share a scene.
        index: Which scene, from 0 on without end.
        seed: Seed of classes and scenes.
        image_size: Side of the image in pixels, 32 or more.
        classes: Number of classes, 2 to 4; they differ in every part.
        most: Largest number of animals. There are fewer where no place is left.

    Raises:
        ValueError: There is no such split or scene, or a setting out of its range.
    """
    _check(split, index, image_size, classes, most)
    key = (seed, 3, SPLITS.index(split), int(index))
    random = np.random.default_rng(key)
    # The first four of eight classes with four variants of each part share none.
    table = synthetic_parts.classes(8, 4, seed)
    ground = synthetic_parts.draw(
        (*key, 0), table[0], image_size=image_size, without=synthetic_parts.PARTS
    )
    image, boxes, labels = ground.image.copy(), [], []
    mask = np.zeros(image.shape[:2], np.uint8)
    for animal in range(random.integers(1, most + 1)):
        label = int(random.integers(classes))
        side = int(image_size * random.uniform(SMALLEST, LARGEST))
        # A drawing is no smaller than the shapes can be.
        drawn = synthetic_parts.draw(
            (*key, animal + 1), table[label], image_size=max(side, 16)
        )
        x0, y0, x1, y1 = drawn.boxes[0].astype(int)
        height, width = y1 - y0, x1 - x0
        for _ in range(TRIES):
            y, x = (
                int(random.integers(image_size - length + 1))
                for length in (height, width)
            )
            box = (x, y, x + width, y + height)
            if all(_apart(box, other) for other in boxes):
                shape = drawn.mask[y0:y1, x0:x1, None] > 0
                place = image[y : y + height, x : x + width]
                np.copyto(place, drawn.image[y0:y1, x0:x1], where=shape)
                mask[y : y + height, x : x + width][shape[..., 0]] = label + 1
                boxes.append(box)
                labels.append(label)
                break
    found = np.asarray(boxes, np.float32), np.asarray(labels, np.int64)
    return Scene(image, *found, mask)


def _apart(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    across = one[0] >= other[2] or other[0] >= one[2]
    return across or one[1] >= other[3] or other[1] >= one[3]


def _check(split: str, index: int, image_size: int, classes: int, most: int) -> None:
    if split not in SPLITS:
        raise ValueError(f"`split`={split!r} is not a split; expected one of {SPLITS}.")
    if index < 0:
        raise ValueError(f"`index`={index} is no scene; expected 0 or more.")
    if image_size < 32:
        raise ValueError(f"`image_size`={image_size} is too small; expected 32.")
    if not 2 <= classes <= CLASSES:
        raise ValueError(f"`classes`={classes}; expected 2 to {CLASSES}.")
    if most < 1:
        raise ValueError(f"`most`={most}; expected 1 or more.")
