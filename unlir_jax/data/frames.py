"""Pixels that annotations count in: the file's, or the turned photo's.

Where EXIF turns a photo, a box at x = 20 may mean the twentieth column of the file or
of what people see. Tables do not say which, so that a setting does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax.data import decoding, orientation

FRAMES = STORED, SEEN = "stored", "seen"
# What becomes of a keypoint that is beyond the edge.
OUTSIDE = REFUSE, HIDE = "refuse", "hide"
# Tables round, and some count the last pixel in: so much may a place lie outside.
SLACK = 1.0


class Setting(NamedTuple):
    """Hold what the choice between the frames is called where data are opened.

    Attributes:
        argument: Its name in Python.
        option: Its name on the command line.
    """

    argument: str
    option: str


FOLDER = Setting("annotations", "--config.data.options.annotations")
OBJECTS = Setting("frame", "--config.data.frame")


class Frame(NamedTuple):
    """Hold which pixels the annotations of one image count in.

    Attributes:
        file: The image, for messages.
        setting: One of `FRAMES`.
        size: Width and height of these pixels.
        turned: The EXIF orientation that turns annotations, 1 … 8; 1 where they count
            in the upright image.
        upright: Width and height of the upright image.
        other: Width and height under the other setting.
        called: What people call the setting.
    """

    file: Path
    setting: str
    size: tuple[int, int]
    turned: int
    upright: tuple[int, int]
    other: tuple[int, int]
    called: Setting = FOLDER

    @property
    def where(self) -> str:
        """Begin a message with the image and its size."""
        width, height = self.size
        kind = "" if self.other == self.size else f" as {self.setting}"
        return f"Image {str(self.file)!r} has {width} x {height} pixels{kind}"


def frame(
    file: Path,
    setting: str,
    upright: tuple[int, int],
    turned: int,
    called: Setting = FOLDER,
) -> Frame:
    """Say which pixels annotations count in.

    Args:
        file: The image, for messages.
        setting: "stored" or "seen".
        upright: Width and height of the image after it was turned.
        turned: The EXIF orientation by which it was.
        called: What people call the setting.
    """
    stored = orientation.turned_size(upright, turned)
    if setting == STORED:
        return Frame(file, setting, stored, turned, upright, upright, called)
    return Frame(file, setting, upright, orientation.UPRIGHT, upright, stored, called)


def check(
    setting: str, keypoints_outside: str = REFUSE, called: Setting = FOLDER
) -> None:
    """Raise ValueError unless the two settings are what they can be."""
    if setting not in FRAMES:
        raise ValueError(
            f"`{called.argument}`={setting!r}; expected 'stored' (places in the pixels "
            "of the file) or 'seen' (in the photo that EXIF has turned)."
        )
    if keypoints_outside not in OUTSIDE:
        raise ValueError(
            f"`keypoints_outside`={keypoints_outside!r}; expected 'refuse' or 'hide'."
        )


def _advice(frame: Frame, fits: bool) -> str:
    """Name the other setting, if that would do."""
    if frame.other == frame.size:
        return ""
    other = SEEN if frame.setting == STORED else STORED
    width, height = frame.other
    return (
        f" (EXIF turns it; `{frame.called.argument}`={other!r}, {width} x {height} "
        f"pixels, {'would fit' if fits else 'does not fit either'}: "
        f"{frame.called.option}={other})"
    )


def _inside(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return ((places >= -SLACK) & (places <= np.add(size, SLACK))).all(-1)


def _shown(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)


def check_size(frame: Frame, size: tuple[int, int] | None) -> None:
    """Refuse an image of another size than the one that boxes were drawn in.

    Raises:
        ValueError: The size is known, and another.
    """
    if size is None or size == frame.size:
        return
    raise ValueError(
        f"{frame.where}, but its boxes are of one of {size[0]} x {size[1]}; expected "
        f"boxes in its own pixels{_advice(frame, size == frame.other)}."
    )


def check_pixels(boxes: Sequence[np.ndarray], where: str) -> None:
    """Refuse boxes that count in shares of their images, as some tools write them.

    Args:
        boxes: Boxes of each image, `[n, 4]`.
        where: What says so, for messages.

    Raises:
        ValueError: All lie in the first pixel, and some have a fraction.
    """
    every = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
    apart = every[(every != np.round(every)).any(-1)]
    if len(apart) and (np.abs(every) <= 1).all():
        raise ValueError(
            f"All boxes of {where} lie within the first pixel, such as "
            f"{_shown(apart[0])}; expected pixels: multiply shares by the width and "
            "the height of the image."
        )


def fit_boxes(boxes: np.ndarray, frame: Frame) -> np.ndarray:
    """Cut boxes at the edges, float32 `[n, 4]`.

    Raises:
        ValueError: A box lies outside by more than a pixel, or altogether.
    """
    fitted = np.clip(boxes, 0, [*frame.size, *frame.size]).astype(np.float32)
    out = ~_inside(boxes.reshape(-1, 2, 2), frame.size).all(-1)
    empty = (fitted[:, 0] >= fitted[:, 2]) | (fitted[:, 1] >= fitted[:, 3])
    for box in boxes[out | empty]:
        fits = bool(_inside(box.reshape(2, 2), frame.other).all())
        raise ValueError(
            f"{frame.where} and the box {_shown(box)}; expected a box in it, in pixels"
            f"{_advice(frame, fits)}."
        )
    return fitted


def fit_keypoints(
    points: np.ndarray, names: tuple[str, ...], frame: Frame, outside: str
) -> np.ndarray:
    """Check that keypoints lie in the image, float32 `[k, 3]`.

    Args:
        points: `[k, 3]`, (0, 0, 0) where one cannot be seen.
        names: What they are called.
        frame: Where they have to be, but for a pixel, for which they are moved.
        outside: What becomes of others: "refuse", or "hide" as not visible.

    Raises:
        ValueError: One is outside, and that is refused.
    """
    out = ~_inside(points[:, :2], frame.size)
    if outside == REFUSE:
        for place in np.flatnonzero(out):
            point, name = points[place, :2], names[place]
            fits = bool(_inside(point[None], frame.other).all())
            raise ValueError(
                f"{frame.where} and the keypoint {name!r} at {_shown(point)}; expected "
                f"it inside{_advice(frame, fits)}, "
                f"{name}_vis=0 where it cannot be seen, or `keypoints_outside`='hide' "
                "(--config.data.options.keypoints_outside=hide)."
            )
    fitted = np.concatenate([np.clip(points[:, :2], 0, frame.size), points[:, 2:]], 1)
    return np.where(out[:, None], 0, fitted).astype(np.float32)


def upright_mask(
    mask: decoding.Decoded,
    size: tuple[int, int],
    turned: int,
    where: str,
    called: Setting | None = FOLDER,
) -> Image.Image:
    """Turn a mask as its image is turned.

    A mask that says itself how it is to be turned has been turned so already. One that
    says nothing counts in the same pixels as all annotations.

    Args:
        mask: As `decoding.decode` gives it.
        size: Width and height of the upright image.
        turned: The EXIF orientation that turns annotations, see `Frame`.
        where: What the mask is called in messages.
        called: What people call the setting; None where there is none.

    Raises:
        ValueError: It has another size than its image.
    """
    image = mask.image
    if mask.orientation is None:
        image = orientation.upright(image, turned)
    if image.size == tuple(size):
        return image
    stored = orientation.turned_size(size, turned)
    advice = ""
    if mask.orientation is None and orientation.is_quarter(turned):
        fits = "would fit" if mask.image.size == tuple(size) else "does not fit either"
        advice = " stored"
        if called is not None:
            advice += (
                f" (EXIF turns it; `{called.argument}`='seen', {size[0]} x {size[1]} "
                f"pixels, {fits}: {called.option}=seen)"
            )
    elif mask.orientation is not None:
        stored, advice = size, " when EXIF has turned both"
    width, height = mask.image.size
    raise ValueError(
        f"{where} has {width} x {height} pixels; expected {stored[0]} x {stored[1]} as "
        f"its image has{advice}."
    )
