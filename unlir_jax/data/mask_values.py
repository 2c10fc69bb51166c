"""Meaning of the values of a mask: an object, classes, or neither for sure.

An object's mask is black and white, and greys lie along its edge alone. In a map of
classes a value fills an area. So values are told apart by whether they fill areas: have
a pixel whose eight neighbours have the same value.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from unlir_jax.data.source import VOID

EXPECTED = (
    "expected data.options.mask=object, classes or trimap, and data.options.ignore="
    "NUMBER or none for void"
)
# Classes have small numbers: no ramp to white ends so low, no grey between lies there.
SMALL = 64
FAINT = 32
# The darkest that is called white, and the least number of greys that make a ramp.
WHITE = 192
GREYS = 4
WHITE_16 = 65535
# Pixels that are counted at a time.
BLOCK = 1 << 20
# Greys of masks with two to five levels of agreement or of coverage.
LEVELS = [
    frozenset(grey for j in range(1, k) for grey in (255 * j // k, -(-255 * j // k)))
    for k in (2, 3, 4, 5)
]


class Stored(NamedTuple):
    """Hold what a file says of each pixel.

    Attributes:
        values: bool, uint8 or uint16 `[height, width]`.
        lossy: Whether compression has changed them.
        scale: What samples of less than 8 bits were multiplied by.
    """

    values: np.ndarray
    lossy: bool = False
    scale: int = 1


class Evidence(NamedTuple):
    """Say what a mask is, and why.

    Attributes:
        kind: `object` or `classes`, for sure; `white` and `full`: 255, which may be
            an object or void, with 0 or alone; `number` and `empty`: one other
            value or none, which both kinds read alike; or `unclear`.
        why: The reason, to follow the name of the mask.
    """

    kind: Literal["object", "classes", "white", "full", "number", "empty", "unclear"]
    why: str


def whole(values: np.ndarray, where: str) -> np.ndarray:
    """Give values as bool, uint8 or uint16.

    Raises:
        ValueError: Values that are no whole numbers from 0 to 65535.
    """
    values = np.asarray(values)
    if values.dtype in (bool, np.uint8, np.uint16):
        return values
    good = np.isfinite(values).all() and (values == np.floor(values)).all()
    if not good or values.min(initial=0) < 0 or values.max(initial=0) > WHITE_16:
        raise ValueError(
            f"{where} holds values that are no whole numbers from 0 to {WHITE_16}; "
            "expected a mask of 8 bits."
        )
    return values.astype(np.uint16)


def grey(values: np.ndarray, where: str) -> np.ndarray:
    """Give the one channel of an image with several, `[height, width, channels]`.

    Raises:
        ValueError: It is coloured, or partly transparent.
    """
    channels = values.shape[-1]
    colours = values[..., : 1 if channels < 3 else 3]
    if (colours != colours[..., :1]).any():
        raise ValueError(f"{where} is coloured; expected grey values or a palette.")
    numbers = colours[..., 0]
    if channels in (2, 4):
        seen = values[..., -1] > 0
        # Where it says what the values say too, nothing is lost.
        if not seen.all() and ((numbers > 0) & ~seen).any():
            raise ValueError(
                f"{where} is transparent where its values are above 0; expected a mask "
                "without transparency."
            )
    return numbers


def look(stored: Stored, ignore: int | None) -> Evidence:
    """Tell what a mask is."""
    values = stored.values
    if values.dtype == bool:
        return Evidence("object" if values.any() else "empty", "has 1 bit a pixel")
    present = np.flatnonzero(counts(values)).tolist()
    rest = [value for value in present if value not in (0, ignore)]
    why = f"has the values {_shown(present)}"
    if stored.lossy and rest + [VOID] * (VOID in present):
        if present[-1] >= WHITE:
            return Evidence("object", "is a JPEG up to white")
        return Evidence("unclear", f"is a JPEG up to {present[-1]}, which is not white")
    # White and void are one value where void is what it mostly is.
    either = ignore == VOID and VOID in present
    if not rest:
        if not either:
            return Evidence("empty", why)
        why = f"{why}, and 255 may be an object or void"
        return Evidence("white" if len(present) > 1 else "full", why)
    if len(rest) == 1 and not either:
        if rest[0] in (VOID, WHITE_16):
            return Evidence("object", why)
        if rest[0] < VOID:
            return Evidence("number", why)
    if stored.scale > 1:
        return Evidence("unclear", f"{why}, of less than 8 bits a pixel")
    if present[0] > 0 and ignore not in present:
        return Evidence("unclear", f"{why} and no background, which is 0")
    return _of_several(values, rest, either, why)


def _of_several(
    values: np.ndarray, rest: list[int], either: bool, why: str
) -> Evidence:
    """Tell a ramp from classes by which values fill areas."""
    if rest[-1] > VOID:
        if rest[-1] < WHITE_16 * 3 // 4:
            return Evidence("unclear", f"{why}, of 16 bits, of which classes have 8")
        values = values // 257
        rest = (np.flatnonzero(counts(values)[1:]) + 1).tolist()
        either = False
    # If there is a ramp, its greys lie below the largest.
    between = rest if either else rest[:-1]
    top = VOID if either else rest[-1]
    if top < SMALL or (either and rest[-1] < FAINT):
        return Evidence("classes", f"{why}, as classes have")
    levels = top == VOID and any(some.issuperset(between) for some in LEVELS)
    filled = np.flatnonzero(_filling(values))
    share = np.isin(between, filled).mean()
    if share >= 0.5 and not levels:
        return Evidence("classes", f"{why}, which fill areas as classes do")
    spread = between[0] < SMALL and between[-1] >= WHITE and len(between) >= GREYS
    if share <= 0.1 and (spread or (levels and len(between) > 1)):
        return Evidence("object", f"{why}, as the edge of an object has")
    other = "levels" if levels else "an object's edge"
    return Evidence("unclear", f"{why}, which may be {other} or classes")


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Give rows a million pixels at a time: counting takes 8 bytes for each."""
    step = max(BLOCK // max(columns, 1), 1)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def counts(values: np.ndarray) -> np.ndarray:
    """Count how often each value is there, `[65536]`."""
    total = np.zeros(WHITE_16 + 1, np.int64)
    for block in _blocks(*values.shape):
        total += np.bincount(values[block].ravel(), minlength=len(total))
    return total


def _filling(values: np.ndarray) -> np.ndarray:
    """Count how often each value is like all its eight neighbours, `[65536]`."""
    total = np.zeros(WHITE_16 + 1, np.int64)
    inner = values[1:-1, 1:-1]
    for block in _blocks(*inner.shape):
        around = values[block.start : block.stop + 2]
        total += np.bincount(inner[block][_same(around)], minlength=len(total))
    return total


def changed(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Look whole numbers up, uint8 `[height, width]`, a block of rows at a time."""
    result = np.empty(values.shape, np.uint8)
    for block in _blocks(*values.shape):
        result[block] = table[values[block].astype(np.intp)]
    return result


def _same(values: np.ndarray) -> np.ndarray:
    """Mark the inner pixels that are like all their eight neighbours."""
    across, down = values[:, 1:] == values[:, :-1], values[1:] == values[:-1]
    rows = across[:, 1:] & across[:, :-1]
    column = down[1:, 1:-1] & down[:-1, 1:-1]
    return rows[:-2] & rows[1:-1] & rows[2:] & column


def _shown(present: list[int]) -> str:
    if len(present) > 5:
        first = ", ".join(map(str, present[:3]))
        return f"{first}, …, {present[-1]} ({len(present)} of them)"
    *some, last = map(str, present)
    return f"{', '.join(some)} and {last}" if some else last


def object_of(
    stored: Stored, ignore: int | None, evidence: Evidence, where: str
) -> np.ndarray:
    """Take white, or the one value above 0, as the object.

    Raises:
        ValueError: The values name classes, or nothing is white.
    """
    values = stored.values
    if values.dtype == bool:
        return values.astype(np.uint8)
    if evidence.kind == "classes":
        raise ValueError(
            f"{where} {evidence.why}, but `mask` is 'object'; expected `mask`=classes, "
            "in which `ignore` is void."
        )
    numbers = np.arange(WHITE_16 + 1)
    present = counts(values) > 0
    void = np.zeros(len(numbers), bool)
    if ignore and ignore < values.max(initial=0):
        void = numbers == ignore
    above = np.flatnonzero(present & ~void & (numbers > 0))
    inside = numbers > 0
    if len(above) > 1 or (stored.lossy and len(above)):
        white = WHITE_16 if above[-1] > VOID else 255
        if above[-1] < white * 3 // 4:
            raise ValueError(
                f"{where} {evidence.why}, but `mask` is 'object'; expected two values, "
                f"or greys up to {white}."
            )
        inside = numbers > white // 2
    return changed(values, np.where(void, VOID, inside).astype(np.uint8))


def classes_of(stored: Stored, ignore: int | None, where: str) -> np.ndarray:
    """Take values as they are, and `ignore` as void.

    Raises:
        ValueError: Compression has changed the values, or they do not fit.
    """
    if stored.lossy:
        raise ValueError(
            f"{where} is a JPEG, whose values are no numbers of classes; expected "
            "a PNG, or `mask`=object."
        )
    numbers = np.arange(WHITE_16 + 1) // stored.scale
    void = np.zeros(len(numbers), bool) if ignore is None else numbers == ignore
    most = int(numbers[~void & (counts(stored.values) > 0)].max(initial=0))
    if most >= VOID:
        raise ValueError(
            f"{where} has the class {most}; expected classes up to 254, or "
            f"`ignore`={most} where that is void."
        )
    return changed(stored.values, np.where(void, VOID, numbers).astype(np.uint8))


def trimap(stored: Stored, where: str) -> np.ndarray:
    """Take 1 as the object, 2 as the background and 3 as void.

    Raises:
        ValueError: There is another value.
    """
    numbers = np.arange(WHITE_16 + 1) // stored.scale
    present = numbers[counts(stored.values) > 0]
    if stored.lossy or not np.isin(present, (1, 2, 3)).all():
        raise ValueError(
            f"{where} has values from {present.min(initial=0)} to "
            f"{present.max(initial=0)}; expected 1 for the object, 2 for the "
            "background and 3 for void."
        )
    parts = np.zeros(len(numbers), np.uint8)
    parts[numbers == 1], parts[numbers == 3] = 1, VOID
    return changed(stored.values, parts)
