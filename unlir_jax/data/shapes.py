"""The parts of the animals of `synthetic_parts`, drawn as signed distances.

Each variant of a part is a function of the coordinates u (forward) and v (down) about
the middle of the part. It gives how far outside of the outline a point lies, how much
of the part's second colour it has, and how much ink.
"""

import cmath
import colorsys
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Number = float | int
Point = tuple[Number, Number]
Fields = tuple[np.ndarray, np.ndarray | float, np.ndarray | float]


class Variant(NamedTuple):
    """One look that a part can have.

    Attributes:
        name: What a person would call it.
        fields: `(u, v) -> distance, second colour, ink`, the last two in [0, 1].
        reach: Half the width and the height of a window that holds it, about (0, 0).
        hue: Its typical hue in [0, 1), or None where every hue will do.
    """

    name: str
    fields: Callable[[np.ndarray, np.ndarray], Fields]
    reach: tuple[float, float]
    hue: float | None = None


class Pose(NamedTuple):
    """Where a part lies: pixels as complex numbers, x + iy.

    Attributes:
        middle: Where u = v = 0 comes to lie.
        forward: The step of u, in pixels.
        down: The step of v: as long as `forward`, and at right angles to it.
    """

    middle: complex
    forward: complex
    down: complex


class Colours(NamedTuple):
    """The two colours of a part, float32 `[3, 1, 1]` in 0 … 255."""

    first: np.ndarray
    second: np.ndarray


def colours(numbers: list[float], hue: float | None) -> Colours:
    """Choose a bright colour, and a dark or pale one next to it, by six numbers.

    Args:
        numbers: In [0, 1): hue, saturation and value of the first, then of the second
            its hue, its value, and whether it is dark.
        hue: What the first hue is near to, or None where any will do.
    """
    own = numbers[0] if hue is None else hue - 0.06 + 0.12 * numbers[0]
    first = own % 1, 0.5 + 0.45 * numbers[1], 0.65 + 0.35 * numbers[2]
    other = (own + 0.3 + 0.4 * numbers[3]) % 1
    dark, pale = (0.7, 0.15 + 0.2 * numbers[4]), (0.2, 0.9 + 0.1 * numbers[4])
    both = first, (other, *(dark if numbers[5] < 0.4 else pale))
    values = [colorsys.hsv_to_rgb(*colour) for colour in both]
    return Colours(*np.array(values, np.float32).reshape(2, 3, 1, 1) * np.float32(255))


def paint(
    canvas: np.ndarray,
    mask: np.ndarray | None,
    value: int,
    variant: Variant,
    pose: Pose,
    colours: Colours,
) -> None:
    """Lay one part over an image, in place.

    A pixel belongs to the part where at least half of it is covered, that is, where its
    centre lies inside of the outline. What the part does not cover keeps its bits, and
    what it covers wholly keeps no trace of what was there.

    Args:
        canvas: float32 `[3, size, size]` in 0 … 255.
        mask: uint8 `[size, size]`, or None where this is no part of the object.
        value: What the mask is set to.
        variant: What to draw.
        pose: Where.
        colours: Its colours.
    """
    size = canvas.shape[-1]
    pixels = abs(pose.forward)
    width = variant.reach[0] * abs(pose.forward.real)
    width += variant.reach[1] * abs(pose.down.real)
    height = variant.reach[0] * abs(pose.forward.imag)
    height += variant.reach[1] * abs(pose.down.imag)
    left = max(math.floor(pose.middle.real - width) - 1, 0)
    right = min(math.ceil(pose.middle.real + width) + 1, size)
    top = max(math.floor(pose.middle.imag - height) - 1, 0)
    bottom = min(math.ceil(pose.middle.imag + height) + 1, size)
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - pose.middle.real)
    y = np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - pose.middle.imag)
    square = pixels * pixels
    u, v = (
        x * np.float32(axis.real / square)
        + (y * np.float32(axis.imag / square))[:, None]
        for axis in (pose.forward, pose.down)
    )
    distance, mix, ink = variant.fields(u, v)
    distance = distance * np.float32(pixels)
    alpha = np.clip(0.5 - distance, 0, 1)
    # The outline is a hundredth of the image wide, whatever the part's size.
    line = np.clip(distance + np.float32(0.5 + size / 110), 0, 1)
    shade = alpha * (1 - np.float32(0.8) * np.maximum(line, ink))
    window = canvas[:, top:bottom, left:right]
    window *= 1 - alpha
    if isinstance(mix, np.ndarray):
        window += shade * (colours.first + (colours.second - colours.first) * mix)
    else:
        window += shade * colours.first
    if mask is not None:
        mask[top:bottom, left:right][alpha >= 0.5] = value


def blob(canvas: np.ndarray, row: list[float]) -> None:
    """Lay an ellipse of any colour into the background, by eleven numbers in [0, 1)."""
    size = canvas.shape[-1]
    along, across = (0.04 + 0.12 * number for number in row[:2])
    outline = _plain(lambda u, v: ellipse(u, v, along, across))
    forward = cmath.rect(size, row[2] * math.tau)
    pose = Pose(complex(row[3], row[4]) * size, forward, forward * 1j)
    variant = Variant("blob", outline, (along, across))
    paint(canvas, None, 0, variant, pose, colours(row[5:], None))


def fragment(canvas: np.ndarray, row: list[float]) -> None:
    """Lay a loose part of any kind, colour and pose into the background.

    It is smaller than an animal's parts, and it takes thirteen numbers in [0, 1).
    """
    size = canvas.shape[-1]
    # A loose body would be as good as a second animal.
    kinds = [variants for part, variants in VARIANTS.items() if part != "body"]
    variants = kinds[int(row[0] * len(kinds))]
    variant = variants[int(row[1] * len(variants))]
    forward = cmath.rect((0.08 + 0.07 * row[2]) * size, row[3] * math.tau)
    down = forward * (1j if row[4] < 0.5 else -1j)
    pose = Pose(complex(row[5], row[6]) * size, forward, down)
    paint(canvas, None, 0, variant, pose, colours(row[7:], None))


def ellipse(u: np.ndarray, v: np.ndarray, along: Number, across: Number) -> np.ndarray:
    """Measure the distance to an ellipse about the origin, to first order."""
    square = (u / along) ** 2 + (v / across) ** 2
    steep = np.sqrt((u / along**2) ** 2 + (v / across**2) ** 2)
    root = np.sqrt(square)
    return (square - root) / (steep + np.float32(1e-6))


def circle(
    u: np.ndarray, v: np.ndarray, middle_u: Number, middle_v: Number, radius: Number
) -> np.ndarray:
    """Measure the distance to a circle."""
    return np.sqrt((u - middle_u) ** 2 + (v - middle_v) ** 2) - radius


def limb(
    u: np.ndarray,
    v: np.ndarray,
    start: Point,
    end: Point,
    thick: Number,
    thin: Number,
) -> np.ndarray:
    """Measure the distance to a line with round ends, of one radius at each end."""
    from_u, from_v = u - start[0], v - start[1]
    step_u, step_v = end[0] - start[0], end[1] - start[1]
    length = step_u**2 + step_v**2
    along = np.clip(from_u * (step_u / length) + from_v * (step_v / length), 0, 1)
    far = np.sqrt((from_u - along * step_u) ** 2 + (from_v - along * step_v) ** 2)
    return far - thick - along * (thin - thick)


def corners(u: np.ndarray, v: np.ndarray, points: tuple[Point, ...]) -> np.ndarray:
    """Measure the distance to a convex polygon, given clockwise on the screen."""
    distance = None
    for (from_u, from_v), (to_u, to_v) in zip(
        points, points[1:] + points[:1], strict=True
    ):
        length = math.hypot(to_u - from_u, to_v - from_v)
        normal_u, normal_v = (to_v - from_v) / length, (from_u - to_u) / length
        offset = normal_u * from_u + normal_v * from_v
        side = u * normal_u + (v * normal_v - offset)
        distance = side if distance is None else np.maximum(distance, side, out=side)
    if distance is None:
        raise ValueError("`points`=() has no corner; expected at least three.")
    return distance


def stripes(u: np.ndarray, period: float) -> np.ndarray:
    """Give bands across u: 1 in every other one."""
    return np.clip(0.5 + 3 * np.sin(u * (2 * math.pi / period)), 0, 1)


def dots(u: np.ndarray, v: np.ndarray, period: float, radius: float) -> np.ndarray:
    """Give a lattice of dots: 1 inside of them."""
    u = u - period * np.round(u / period)
    v = v - period * np.round(v / period)
    return np.clip((radius - np.sqrt(u**2 + v**2)) / (period / 8) + 0.5, 0, 1)


def _body(pattern: Callable[[np.ndarray, np.ndarray], np.ndarray | float]):
    def fields(u, v):
        return ellipse(u, v, 0.98, 0.68), pattern(u, v), 0.0

    return fields


def _half(u, v):
    return np.clip((v - 0.08) * 20 + 0.5, 0, 1)


def _head(ornament: Callable[[np.ndarray, np.ndarray], np.ndarray] | None):
    def fields(u, v):
        outline = circle(u, v, 0, 0, 0.5)
        if ornament is not None:
            outline = np.minimum(outline, ornament(u, v))
        eye = circle(u, v, 0.17, -0.1, 0)
        white = np.clip((0.19 - eye) * 20, 0, 1)
        return outline, white, np.clip((0.11 - eye) * 20, 0, 1)

    return fields


def _crest(u, v):
    back = corners(u, v, ((-0.05, -0.3), (-0.3, 0.1), (-0.85, -0.3)))
    middle = corners(u, v, ((0.15, -0.4), (-0.3, -0.1), (-0.6, -0.8)))
    front = corners(u, v, ((0.3, -0.3), (-0.1, -0.3), (-0.12, -0.98)))
    return np.minimum(np.minimum(back, middle), front)


def _ears(u, v):
    front = limb(u, v, (0.2, -0.35), (0.32, -0.85), 0.15, 0.11)
    return np.minimum(front, limb(u, v, (-0.2, -0.35), (-0.38, -0.85), 0.15, 0.11))


def _knob(u, v):
    stem = limb(u, v, (0, -0.4), (0.05, -0.8), 0.07, 0.07)
    return np.minimum(stem, circle(u, v, 0.05, -0.82, 0.2))


def _plain(outline: Callable[[np.ndarray, np.ndarray], np.ndarray]):
    return lambda u, v: (outline(u, v), 0.0, 0.0)


def _cone(length: float, half: float):
    points = ((-0.5, -half), (length - 0.5, 0), (-0.5, half))
    return _plain(lambda u, v: corners(u, v, points))


def _spoon(u, v):
    return limb(u, v, (-0.4, 0), (0.38, 0), 0.1, 0.3)


def _hooked(u, v):
    upper = limb(u, v, (-0.35, -0.04), (0.25, -0.04), 0.26, 0.24)
    return np.minimum(upper, limb(u, v, (0.25, -0.04), (0.36, 0.56), 0.24, 0.04))


def _folded_wing(u, v):
    return ellipse(u, v, 0.6, 0.34)


def _raised_wing(u, v):
    points = ((-0.85, -0.95), (0.1, -0.5), (0.5, 0.3), (-0.15, 0.38))
    outline = corners(u, v, points)
    return outline, np.clip((-0.3 - v) * 20, 0, 1), 0.0


def _feathered_wing(u, v):
    outline = limb(u, v, (0.3, 0), (-0.85, -0.6), 0.24, 0.1)
    for tip in ((-0.95, -0.12), (-0.8, 0.36)):
        outline = np.minimum(outline, limb(u, v, (0.3, 0), tip, 0.24, 0.1))
    return outline


def _twin_wing(u, v):
    front = limb(u, v, (0.1, 0.25), (0.35, -0.8), 0.1, 0.2)
    return np.minimum(front, limb(u, v, (0, 0.25), (-0.5, -0.75), 0.1, 0.2))


def _fan_tail(u, v):
    outline = corners(u, v, ((0.55, 0.1), (-0.5, 0.6), (-0.5, -0.6), (0.55, -0.1)))
    return outline, np.clip((-0.22 - u) * 20, 0, 1), 0.0


def _forked_tail(u, v):
    upper = limb(u, v, (0.5, 0), (-0.65, -0.5), 0.16, 0.07)
    return np.minimum(upper, limb(u, v, (0.5, 0), (-0.65, 0.5), 0.16, 0.07))


def _tufted_tail(u, v):
    stem = limb(u, v, (0.5, 0), (-0.2, 0), 0.09, 0.09)
    tuft = circle(u, v, -0.3, 0, 0.36)
    return np.minimum(stem, tuft), dots(u + 0.3, v, 0.36, 0.09), 0.0


def _curled_tail(u, v):
    lower = limb(u, v, (0.5, 0.05), (-0.25, 0.15), 0.15, 0.13)
    return np.minimum(lower, limb(u, v, (-0.25, 0.15), (-0.35, -0.75), 0.13, 0.08))


def _legs(foot: Callable[[np.ndarray, np.ndarray], np.ndarray], radius: float):
    def outline(u, v):
        # The two legs are alike: the nearer one is measured.
        u = np.abs(u) - np.float32(0.32)
        leg = limb(u, v, (0, -0.55), (0, 0.4), radius, radius)
        return np.minimum(leg, foot(u, v))

    return outline


def _webbed_foot(u, v):
    return corners(u, v, ((0, 0.05), (0.3, 0.52), (-0.3, 0.52)))


def _round_foot(u, v):
    return circle(u, v, 0, 0.36, 0.2)


def _stout_legs(u, v):
    return limb(np.abs(u) - 0.34, v, (0, -0.55), (0, 0.1), 0.24, 0.2)


def _splayed_legs(u, v):
    u = np.abs(u)
    outer = limb(u, v, (0.3, -0.55), (0.75, 0.45), 0.1, 0.08)
    return np.minimum(outer, limb(u, v, (0.12, -0.55), (0.24, 0.48), 0.1, 0.08))


VARIANTS: dict[str, tuple[Variant, ...]] = {
    "body": (
        Variant("plain", _body(lambda u, v: 0.0), (0.98, 0.68)),
        Variant("striped", _body(lambda u, v: stripes(u, 0.42)), (0.98, 0.68)),
        Variant("dotted", _body(lambda u, v: dots(u, v, 0.42, 0.13)), (0.98, 0.68)),
        Variant("two-tone", _body(_half), (0.98, 0.68)),
    ),
    "head": (
        Variant("round", _head(None), (0.5, 0.5)),
        Variant("crested", _head(_crest), (0.86, 1.0)),
        Variant("eared", _head(_ears), (0.52, 0.98)),
        Variant("knobbed", _head(_knob), (0.5, 1.04)),
    ),
    "beak": (
        Variant("pointed", _cone(1.2, 0.3), (0.71, 0.31), 0.12),
        Variant("hooked", _plain(_hooked), (0.62, 0.61), 0.98),
        Variant("spoon", _plain(_spoon), (0.69, 0.31), 0.55),
        Variant("stubby", _cone(0.7, 0.45), (0.51, 0.46), 0.8),
    ),
    "wing": (
        Variant("folded", _plain(_folded_wing), (0.6, 0.34)),
        Variant("raised", _raised_wing, (0.86, 0.96)),
        Variant("feathered", _plain(_feathered_wing), (1.06, 0.72)),
        Variant("twin", _plain(_twin_wing), (0.71, 1.01)),
    ),
    "tail": (
        Variant("fan", _fan_tail, (0.56, 0.61), 0.62),
        Variant("forked", _plain(_forked_tail), (0.73, 0.58), 0.33),
        Variant("tufted", _tufted_tail, (0.67, 0.37), 0.05),
        Variant("curled", _plain(_curled_tail), (0.66, 0.84), 0.85),
    ),
    "legs": (
        Variant("webbed", _plain(_legs(_webbed_foot, 0.1)), (0.63, 0.66), 0.08),
        Variant("stout", _plain(_stout_legs), (0.59, 0.8), 0.75),
        Variant("splayed", _plain(_splayed_legs), (0.84, 0.66), 0.42),
        Variant("ball-footed", _plain(_legs(_round_foot, 0.1)), (0.53, 0.66), 0.58),
    ),
}
