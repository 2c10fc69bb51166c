"""Animals made of parts, for when it must be known which part decides.

A class is a combination of variants of the parts, and nothing else in the image
depends on it. Every example is a pure function of its seed, split and index, and can
be drawn again without a part, or with another variant of it.
"""

import cmath
import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax.core import choices
from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import shapes, source

PARTS: tuple[str, ...] = tuple(shapes.VARIANTS)
MOST_VARIANTS = min(map(len, shapes.VARIANTS.values()))
SIZES = {"train": 20_000, "validation": 2_000, "test": 4_000}

# The middle of each part, in units of about half a body; from the back to the front.
ANCHORS = {
    "tail": -1.42 + 0.0j,
    "legs": 0.0 + 0.95j,
    "body": 0.0 + 0.0j,
    "beak": 1.62 - 0.62j,
    "head": 0.98 - 0.68j,
    "wing": -0.22 - 0.28j,
}
UNIT = 0.2
BLOBS, FRAGMENTS = 4, 4
# Each thing in an image has a row of random numbers of its own, so that taking one
# away, or drawing it in another way, leaves the numbers of all others as they are.
ROWS = 2 + len(PARTS) + BLOBS + FRAGMENTS
NUMBERS = 16
COARSE, FINE = 5, 24


class Scene(NamedTuple):
    """One drawn image and everything that is in it.

    Attributes:
        image: uint8 `[size, size, 3]`.
        mask: uint8 `[size, size]`, k where the k-th part of `PARTS` is in front.
        keypoints: float32 `[parts, 3]`, the middle of each part as x, y, visible;
            visible where some of the part can be seen and its middle is in the image.
        boxes: float32 `[1, 4]`, round all that can be seen of the object; zeros where
            nothing of it can.
        label: Index of the class.
    """

    image: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    label: int


def classes(count: int, variants: int = 3, seed: int = 0) -> np.ndarray:
    """Choose which variant of each part every class has.

    Every variant of every part belongs to `count / variants` classes, rounded down or
    up: no part alone gives the class away. Any two classes differ in two parts at
    least, as long as there are at most `variants ** 5` of them.

    Args:
        count: Number of classes, `2 * variants` to `variants ** 6`.
        variants: Number of variants of each part, 2 to 4.
        seed: Chooses among the possible tables.

    Returns:
        int64 `[count, parts]`, the variant of each part.

    Raises:
        ValueError: There is no such table.
    """
    return _table(count, variants, seed).copy()


@functools.lru_cache(maxsize=64)
def _table(count: int, variants: int, seed: int) -> np.ndarray:
    if not 2 <= variants <= MOST_VARIANTS:
        raise ValueError(
            f"`variants`={variants} is not possible; expected 2 to {MOST_VARIANTS} "
            "variants of each part."
        )
    fewest, most = 2 * variants, variants ** len(PARTS)
    if not fewest <= count <= most:
        raise ValueError(
            f"`classes`={count} is not possible with `variants`={variants}; expected "
            f"{fewest} to {most}, so that every variant is shared by two classes."
        )
    _check_key((seed,))
    random = np.random.default_rng([seed, 0])
    # Words of five free letters and their sum differ in two letters or in none. Adding
    # one to each free letter goes through all values of every letter, the sum's too,
    # because five has no divisor in common with 2, 3 or 4.
    starts = np.indices((variants,) * (len(PARTS) - 2)).reshape(len(PARTS) - 2, -1).T
    starts = np.insert(starts, 0, 0, axis=1)
    blocks = []
    for shift in range(variants):
        free = random.permutation(starts)[:, None] + np.arange(variants)[:, None]
        words = np.concatenate([free, free.sum(-1, keepdims=True) + shift], -1)
        blocks.append(_spread(words % variants))
    words = np.concatenate(blocks).reshape(-1, len(PARTS))[:count]
    relabelled = [random.permutation(variants)[column] for column in words.T]
    return np.stack(relabelled, -1).astype(np.int64)


def _spread(blocks: np.ndarray) -> np.ndarray:
    """Order blocks of words so that the first few have few letters in common.

    Otherwise chance may give ten classes of which each has two that it differs from in
    the beak and the tail only, and parts that always come together.
    """
    crowding = np.zeros(len(blocks))
    order = []
    for _ in blocks:
        order.append(int(np.argmin(crowding)))
        apart = (blocks != blocks[order[-1], 0]).sum(-1)
        # A power of two for each pair of words: the sums are exact everywhere.
        crowding += np.ldexp(1.0, -4 * apart).sum(-1)
        crowding[order[-1]] = np.inf
    return blocks[order]


def draw(
    key: tuple[int, ...] | int,
    variants_of_parts: Sequence[int] | np.ndarray,
    *,
    image_size: int = 128,
    label: int = -1,
    without: Collection[str] = (),
    replace: Mapping[str, int] | None = None,
) -> Scene:
    """Draw one animal.

    Args:
        key: What all that varies is drawn from, as integers of at least 0.
        variants_of_parts: The variant of each of `PARTS`.
        image_size: Side of the image in pixels.
        label: What to say of its class.
        without: Parts to leave out; all else stays, and what was behind appears.
        replace: Other variants for some parts; all else stays.

    Raises:
        ValueError: There is no such part or variant, or the image is too small.
        TypeError: `without` is one string.
    """
    chosen = _choose(variants_of_parts, without, replace or {})
    if image_size < 16:
        raise ValueError(
            f"`image_size`={image_size} is too small; expected 16 or more."
        )
    key = _check_key((key,) if isinstance(key, int | np.integer) else key)
    random = np.random.default_rng(key)
    rows = iter(random.random((ROWS, NUMBERS)).tolist())
    pose, light = next(rows), next(rows)
    canvas = _ground(random, image_size)
    for _ in range(BLOBS):
        shapes.blob(canvas, next(rows))
    for _ in range(FRAGMENTS):
        shapes.fragment(canvas, next(rows))
    mask = np.zeros((image_size, image_size), np.uint8)
    middles = np.zeros((len(PARTS), 3), np.float32)
    for part, middle in ANCHORS.items():
        row = next(rows)
        if part not in chosen:
            continue
        variant = shapes.VARIANTS[part][chosen[part]]
        value = PARTS.index(part) + 1
        placed = _place(pose, row, middle, image_size)
        colours = shapes.colours(row[4:], variant.hue)
        shapes.paint(canvas, mask, value, variant, placed, colours)
        middles[value - 1] = placed.middle.real, placed.middle.imag, 1
    image = _develop(canvas, light)
    return Scene(image, mask, _seen(middles, mask), _box(mask), label)


def example(
    split: str,
    index: int,
    *,
    seed: int = 0,
    classes: int = 10,
    variants: int = 3,
    image_size: int = 128,
    without: Collection[str] = (),
    replace: Mapping[str, int] | None = None,
) -> source.Example:
    """Draw an example of a split, as it is or with parts taken away or replaced.

    Args:
        split: "train", "validation" or "test".
        index: Which example, from 0 on without end.
        seed: See `synthetic_parts`, as for what follows.
        classes: Number of classes.
        variants: Number of variants.
        image_size: Side of the image.
        without: Parts to leave out, see `draw`; the label stays.
        replace: Other variants for some parts, see `draw`; the label stays.

    Raises:
        ValueError: There is no such split, example, class table, part or variant.
    """
    table = _table(classes, variants, seed)
    number = _split_number(split)
    if index < 0:
        raise ValueError(f"`index`={index} is no example; expected 0 or more.")
    block, place = divmod(int(index), classes)
    label = int(_orders(seed, number, classes, block, 1)[0, place])
    scene = draw(
        (seed, 2, number, int(index)),
        table[label],
        image_size=image_size,
        label=label,
        without=without,
        replace=replace,
    )
    return scene._asdict()


def synthetic_parts(
    split: str = "train",
    *,
    size: int | None = None,
    classes: int = 10,
    variants: int = 3,
    image_size: int = 128,
    seed: int = 0,
) -> source.Source:
    """Give animals made of parts, with masks, keypoints and boxes.

    Every run of `classes` examples, counted from the first, has each class once.

    Args:
        split: "train", "validation" or "test"; no two share an example.
        size: Number of examples; 20,000, 2,000 and 4,000 if not given. The first
            examples are the same whatever the size.
        classes: Number of classes, see `classes`.
        variants: Number of variants of each part, 2 to 4.
        image_size: Side of the images in pixels.
        seed: Seed of the classes, shared by all splits, and of the images.

    Raises:
        ValueError: There is no such split, or no such table of classes.
    """
    number = _split_number(split)
    size = SIZES[split] if size is None else size
    if size < 1:
        raise ValueError(f"`size`={size} leaves no example; expected at least 1.")
    _table(classes, variants, seed)
    orders = _orders(seed, number, classes, 0, math.ceil(size / classes))

    settings: Record = {"seed": seed, "image_size": image_size}
    settings |= {"classes": classes, "variants": variants}
    return source.Source(
        read=functools.partial(_read, split, size, settings),
        size=size,
        classes=tuple(f"class {label}" for label in range(classes)),
        name=functools.partial("synthetic_parts/{}/{}".format, split),
        labels=orders.reshape(-1)[:size].astype(np.int32),
        annotations=("boxes", "mask", "keypoints"),
        parts=PARTS,
    )


def _read(split: str, size: int, settings: Document, index: int):
    if not 0 <= index < size:
        raise ValueError(f"`index`={index} is no example; expected 0 to {size - 1}.")
    return example(split, index, **settings)


def _orders(seed: int, split: int, count: int, first: int, blocks: int) -> np.ndarray:
    """Give the order of the classes in some blocks of `count` examples."""
    bits = np.random.PCG64([seed, 1, split])
    # One step of the generator for each number: any block can be had without the rest.
    bits.advance(first * count)
    numbers = np.random.Generator(bits).random((blocks, count))
    return np.argsort(numbers, axis=-1, kind="stable")


def _split_number(split: str) -> int:
    wrong = f"`split`={split!r} is not a split"
    choices.pick(split, SIZES, wrong, "expected {}")
    return list(SIZES).index(split)


def _check_key(key: tuple[int, ...]) -> tuple[int, ...]:
    if not key or min(key) < 0:
        raise ValueError(f"`key`={key} is no key; expected integers of at least 0.")
    return key


def _choose(
    variants: Sequence[int] | np.ndarray,
    without: Collection[str],
    replace: Mapping[str, int],
) -> dict[str, int]:
    """Find the variant of each part that is to be drawn."""
    if isinstance(without, str):
        raise TypeError(
            f"`without`={without!r} is one string; expected a collection of names, "
            f"such as ({without!r},)."
        )
    if len(variants) != len(PARTS):
        raise ValueError(
            f"`variants_of_parts` has {len(variants)} entries; expected "
            f"{len(PARTS)}, one for each of {', '.join(PARTS)}."
        )
    for part in (*without, *replace):
        choices.pick(part, PARTS, f"{part!r} is not a part", "expected {}")
    chosen = dict(zip(PARTS, map(int, variants), strict=True)) | dict(replace)
    for part, variant in chosen.items():
        known = shapes.VARIANTS[part]
        if not 0 <= variant < len(known):
            shown = ", ".join(f"{i} ({look.name})" for i, look in enumerate(known))
            raise ValueError(f"The {part} has no variant {variant}; expected {shown}.")
    return {part: chosen[part] for part in PARTS if part not in without}


def _ground(random: np.random.Generator, size: int) -> np.ndarray:
    """Make a background of coarse and fine noise, `[3, size, size]`."""
    coarse = random.random((COARSE, COARSE, 3), np.float32)
    fine = random.random((FINE, FINE, 3), np.float32)
    strength = random.random((2, 3), np.float32)
    # Paler than the parts, so that a person finds these.
    pale = 0.5 * coarse + 0.5 * coarse[..., :1]
    small = np.round(60 + 150 * pale).astype(np.uint8)
    middle = Image.fromarray(small).resize((FINE, FINE), Image.Resampling.BICUBIC)
    rough = np.asarray(middle) + (fine - 0.5) * (15 + 50 * strength[0])
    small = np.clip(rough + 50 * (strength[1] - 0.5), 0, 255).astype(np.uint8)
    ground = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(ground).transpose(2, 0, 1), np.float32)


def _place(
    pose: list[float], row: list[float], middle: complex, size: int
) -> shapes.Pose:
    """Put a part into the image: the animal's pose and the part's own."""
    scale = UNIT * size * (0.75 + 0.3 * pose[0])
    turn = cmath.rect(scale, math.radians(36 * pose[1] - 18))
    at = complex(0.43 + 0.14 * pose[2], 0.44 + 0.18 * pose[3]) * size
    mirrored = pose[4] < 0.5
    angle = math.radians(20 * row[1] - 10)
    own = cmath.rect(0.92 + 0.18 * row[0], angle)
    middle += 0.12 * complex(row[2] - 0.5, row[3] - 0.5)

    def turned(point: complex) -> complex:
        return turn * (-point.conjugate() if mirrored else point)

    return shapes.Pose(at + turned(middle), turned(own), turned(own * 1j))


def _develop(canvas: np.ndarray, light: list[float]) -> np.ndarray:
    """Light the image from one side and make it `[size, size, 3]` of 8 bits."""
    ramp = np.linspace(-1, 1, canvas.shape[-1], dtype=np.float32)
    tilt = cmath.rect(0.2 * light[0], light[1] * math.tau)
    gain = ramp * np.float32(tilt.real) + (ramp * np.float32(tilt.imag))[:, None]
    gain += np.float32(0.75 + 0.35 * light[2])
    tint = [0.93 + 0.14 * number for number in light[3:6]]
    canvas *= gain
    canvas *= np.array(tint, np.float32).reshape(3, 1, 1)
    canvas += np.float32(30 * light[6] - 4.5)
    shown = np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)
    return np.ascontiguousarray(shown.transpose(1, 2, 0))


def _seen(middles: np.ndarray, mask: np.ndarray) -> np.ndarray:
    visible = np.bincount(mask.reshape(-1), minlength=len(middles) + 1)[1:] > 0
    inside = ((middles[:, :2] >= 0) & (middles[:, :2] < mask.shape[0])).all(-1)
    return middles * (visible & inside)[:, None]


def _box(mask: np.ndarray) -> np.ndarray:
    """Find the box round all that is not background, half-open; zeros if nothing is."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(columns):
        return np.zeros((1, 4), np.float32)
    corners = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return np.array([corners], np.float32)
