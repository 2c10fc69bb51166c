"""What the values of one mask tell: an object, classes, or neither for sure.

An object's mask is black and white, and greys lie along its edge alone. In a map of
classes a value fills an area. So values are told apart by whether they fill areas: have
a pixel whose eight neighbours have the same value.
"""

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
            an object or void, beside 0 or alone; `number` and `empty`: one other
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
    """Give the one channel of a picture with several, `[height, width, channels]`.

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
    present = np.flatnonzero(np.bincount(values.ravel())).tolist()
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
        rest, either = np.unique(values[values > 0]).tolist(), False
    # If there is a ramp, its greys lie below the largest.
    between = rest if either else rest[:-1]
    top = VOID if either else rest[-1]
    if top < SMALL or (either and rest[-1] < FAINT):
        return Evidence("classes", f"{why}, as classes have")
    levels = top == VOID and any(some.issuperset(between) for some in LEVELS)
    inner = values[1:-1, 1:-1]
    filled = np.flatnonzero(np.bincount(inner[_same(values)]))
    share = np.isin(between, filled).mean()
    if share >= 0.5 and not levels:
        return Evidence("classes", f"{why}, which fill areas as classes do")
    spread = between[0] < SMALL and between[-1] >= WHITE and len(between) >= GREYS
    if share <= 0.1 and (spread or (levels and len(between) > 1)):
        return Evidence("object", f"{why}, as the edge of an object has")
    other = "levels" if levels else "an object's edge"
    return Evidence("unclear", f"{why}, which may be {other} or classes")


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
        ValueError: The values are those of classes, or nothing is white.
    """
    values = stored.values
    if values.dtype == bool:
        return values.astype(np.uint8)
    if evidence.kind == "classes":
        raise ValueError(
            f"{where} {evidence.why}, but `mask` is 'object'; expected `mask`=classes, "
            "in which `ignore` is void."
        )
    void = np.zeros(values.shape, bool)
    if ignore and ignore < values.max(initial=0):
        void = values == ignore
    above = np.unique(values[~void & (values > 0)])
    inside = values > 0
    if len(above) > 1 or (stored.lossy and len(above)):
        white = WHITE_16 if above[-1] > VOID else 255
        if above[-1] < white * 3 // 4:
            raise ValueError(
                f"{where} {evidence.why}, but `mask` is 'object'; expected two values, "
                f"or greys up to {white}."
            )
        inside = values > white // 2
    return np.where(void, VOID, inside).astype(np.uint8)


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
    values = stored.values.astype(np.int64) // stored.scale
    void = np.zeros(values.shape, bool) if ignore is None else values == ignore
    most = int(values[~void].max(initial=0))
    if most >= VOID:
        raise ValueError(
            f"{where} has the class {most}; expected classes up to 254, or "
            f"`ignore`={most} where that is void."
        )
    return np.where(void, VOID, values).astype(np.uint8)


def trimap(stored: Stored, where: str) -> np.ndarray:
    """Take 1 as the object, 2 as the background and 3 as void.

    Raises:
        ValueError: There is another value.
    """
    values = stored.values.astype(np.int64) // stored.scale
    if stored.lossy or not np.isin(values, (1, 2, 3)).all():
        raise ValueError(
            f"{where} has values from {values.min(initial=0)} to "
            f"{values.max(initial=0)}; expected 1 for the object, 2 for the background "
            "and 3 for void."
        )
    return np.asarray([0, 1, 0, VOID], np.uint8)[values]
