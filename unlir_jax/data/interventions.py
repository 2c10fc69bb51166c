"""Animals drawn again without a part, or with another variant of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from unlir_jax.core.document_types import Record
from unlir_jax.data import source, synthetic_parts
from unlir_jax.types import Array

Indices = Sequence[int] | Integer[Array, " n"]


class Interventions(NamedTuple):
    """Hold images and the same images without each part.

    Attributes:
        images: uint8 `[n, size, size, 3]`.
        without: uint8 `[n, parts, size, size, 3]`, one part left out at a time.
        masks: uint8 `[n, size, size]` of `images`: k where the k-th part of
            `synthetic_parts.PARTS` is in front, whatever parts were asked for.
        labels: int64 `[n]`.
        present: bool `[n, parts]`, whether any of the part can be seen in `images`.
        parts: Names of the parts that were left out.
    """

    images: np.ndarray
    without: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    present: np.ndarray
    parts: tuple[str, ...]


class Swaps(NamedTuple):
    """Hold images and the same images with another variant of each part.

    Attributes:
        images: As in `Interventions`, and so are those not named here.
        swapped: uint8 `[n, parts, size, size, 3]`, one part replaced at a time.
        masks: Masks of the parts in `images`.
        labels: Classes of `images`.
        present: As in `Interventions`.
        parts: Names of the parts that were replaced.
        variants: int64 `[n, parts]`, what each was replaced by.
    """

    images: np.ndarray
    swapped: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    present: np.ndarray
    parts: tuple[str, ...]
    variants: np.ndarray


def synthetic_interventions(
    split: str,
    indices: Indices,
    *,
    seed: int = 0,
    classes: int = 10,
    variants: int = 3,
    image_size: int = 128,
    parts: Sequence[str] | None = None,
) -> Interventions:
    """Draw examples of a split, and each again without each of some parts.

    Everything else stays as it is, and what was behind a part appears. The result takes
    `(1 + parts) * 3 * image_size ** 2` bytes an example: ask for some at a time.

    Args:
        split: "train", "validation" or "test".
        indices: Indices of the examples.
        seed: See `synthetic_parts.synthetic_parts`, as for what follows.
        classes: Number of classes.
        variants: Number of variants.
        image_size: Side of the images.
        parts: Which parts to leave out, one at a time; all if not given.

    Raises:
        ValueError: There is no such split, example or part, or none is asked for.
        TypeError: `parts` is one string.
    """
    chosen, parts = _check(indices, parts)
    settings: Record = {"seed": seed, "image_size": image_size}
    settings |= {"classes": classes, "variants": variants}
    scenes = [synthetic_parts.example(split, index, **settings) for index in chosen]
    without = [
        [
            synthetic_parts.example(split, index, without=(part,), **settings)["image"]
            for part in parts
        ]
        for index in chosen
    ]
    images, masks, labels, present = _stack(scenes, parts)
    return Interventions(images, np.asarray(without), masks, labels, present, parts)


def swap(
    split: str,
    indices: Indices,
    *,
    seed: int = 0,
    classes: int = 10,
    variants: int = 3,
    image_size: int = 128,
    parts: Sequence[str] | None = None,
    shift: int = 1,
) -> Swaps:
    """Draw examples of a split, and each again with another variant of some parts.

    Args:
        split: "train", "validation" or "test".
        indices: Indices of the examples.
        seed: See `synthetic_parts.synthetic_parts`, as for what follows.
        classes: Number of classes.
        variants: Number of variants.
        image_size: Side of the images.
        parts: Which parts to replace, one at a time; all if not given.
        shift: Variant v becomes `(v + shift) % variants`; 1 to `variants - 1`.

    Raises:
        ValueError: As in `synthetic_interventions`, or a `shift` that changes nothing.
        TypeError: `parts` is one string.

    Note:
        As long as any two classes differ in two parts (see `synthetic_parts.classes`),
        a swapped animal belongs to no class.
    """
    chosen, parts = _check(indices, parts)
    if not 1 <= shift < variants:
        raise ValueError(
            f"`shift`={shift} is not possible with `variants`={variants}; expected 1 "
            f"to {variants - 1}."
        )
    settings: Record = {"seed": seed, "image_size": image_size}
    settings |= {"classes": classes, "variants": variants}
    scenes = [synthetic_parts.example(split, index, **settings) for index in chosen]
    images, masks, labels, present = _stack(scenes, parts)
    table = synthetic_parts.classes(classes, variants, seed)
    columns = [synthetic_parts.PARTS.index(part) for part in parts]
    others = (table[labels][:, columns] + shift) % variants
    swapped = [
        [
            synthetic_parts.example(split, index, replace={part: variant}, **settings)
            for part, variant in zip(parts, row.tolist(), strict=True)
        ]
        for index, row in zip(chosen, others, strict=True)
    ]
    drawn = np.asarray([[scene["image"] for scene in row] for row in swapped])
    return Swaps(images, drawn, masks, labels, present, parts, others)


def _check(
    indices: Indices, parts: Sequence[str] | None
) -> tuple[list[int], tuple[str, ...]]:
    if isinstance(parts, str):
        raise TypeError(
            f"`parts`={parts!r} is one string; expected names, such as ({parts!r},)."
        )
    names = synthetic_parts.PARTS if parts is None else tuple(parts)
    for part in names:
        if part not in synthetic_parts.PARTS:
            raise ValueError(
                f"{part!r} is not a part; expected {', '.join(synthetic_parts.PARTS)}."
            )
    chosen = [int(index) for index in indices]
    if not chosen or not names:
        raise ValueError(
            f"`indices` has {len(chosen)} examples and `parts` {len(names)} names; "
            "expected at least one of each."
        )
    return chosen, names


def _stack(
    scenes: list[source.Example], parts: tuple[str, ...]
) -> tuple[np.ndarray, ...]:
    images, masks = (
        np.stack([scene[name] for scene in scenes]) for name in ("image", "mask")
    )
    labels = np.asarray([scene["label"] for scene in scenes], np.int64)
    numbers = [synthetic_parts.PARTS.index(part) + 1 for part in parts]
    shown = [(masks == number).any((1, 2)) for number in numbers]
    return images, masks, labels, np.stack(shown, -1)
