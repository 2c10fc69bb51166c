"""Move an image, and with it everything that is known about places in it.

A move is one matrix. The image, the mask, the boxes and the keypoints all follow that
matrix here and nowhere else, so that they cannot disagree.
"""

import numpy as np
from PIL import Image

from unlir_jax.core.document_types import Record
from unlir_jax.data import orientation, preprocessing, resizing, source
from unlir_jax.data.source import VOID

Box = resizing.Box
MIRRORS = {
    (True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (True, True): Image.Transpose.ROTATE_180,
}


def opened(example: source.Example) -> source.Example:
    """Give an example whose image and mask are Pillow images."""
    image = example["image"]
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if image.mode != "RGB":
        image = preprocessing.to_rgb(image)
    example = {**example, "image": image}
    if isinstance(example.get("mask"), np.ndarray):
        example["mask"] = Image.fromarray(example["mask"])
    return example


def closed(example: source.Example) -> source.Example:
    """Give an example whose image and mask are arrays, the inverse of `opened`."""
    names = [name for name in ("image", "mask") if name in example]
    return {**example, **{name: np.asarray(example[name]) for name in names}}


def window(
    example: source.Example,
    box: Box,
    size: tuple[int, int],
    mirrored: tuple[bool, bool] = (False, False),
    *,
    interpolation: str = preprocessing.BILINEAR,
) -> source.Example:
    """Cut a box out, resize it, and mirror the result if wished.

    Args:
        example: As `opened` gives it.
        box: x0, y0, x1, y1 in pixels. What lies outside the image becomes black, and
            void in the mask; such a box must be of whole pixels and of `size`.
        size: Width and height of the result.
        mirrored: Whether left and right, top and bottom change places.
        interpolation: Filter for the image, see `preprocessing.INTERPOLATIONS`.
    """
    scales = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
    matrix = np.array([[scales[0], 0, box[0]], [0, scales[1], box[1]]])
    for axis in (0, 1):
        if mirrored[axis]:
            matrix[axis, axis], matrix[axis, 2] = -scales[axis], box[axis + 2]
    return move(example, matrix, size, interpolation)


def move(
    example: source.Example,
    matrix: np.ndarray,
    size: tuple[int, int],
    interpolation: str = preprocessing.BILINEAR,
) -> source.Example:
    """Apply an affine map to the image and all that belongs to it.

    Enlarging and reducing along the axes is antialiased; a map that turns or shears is
    not, and shows black where the image ends. The mask takes its nearest value, and
    is void where the image ends: nobody has looked there. A box becomes the upright
    box round its moved corners, cut at the border. A box or keypoint that leaves the
    image becomes zeros.

    Args:
        example: As `opened` gives it.
        matrix: `[2, 3]`, takes places in the result to places in the example.
        size: Width and height of the result.
        interpolation: Filter for the image; maps that turn or shear take the nearest,
            the bilinear or the bicubic value.
    """
    moved: Record = dict(example)
    smooth = preprocessing.INTERPOLATIONS[interpolation]
    nearest = Image.Resampling.NEAREST
    moved["image"] = _draw(example["image"], matrix, size, smooth)
    if "mask" in example:
        moved["mask"] = _draw(example["mask"], matrix, size, nearest, VOID)
    inverse = _inverse(matrix)
    if "boxes" in example:
        moved["boxes"] = _boxes(np.asarray(example["boxes"]), inverse, size)
    if "keypoints" in example:
        moved["keypoints"] = _keypoints(np.asarray(example["keypoints"]), inverse, size)
    return moved


def turn(places: source.Example, upright: int, size: tuple[int, int]) -> source.Example:
    """Turn boxes and keypoints of stored pixels as EXIF turns their image.

    Args:
        places: `boxes` and `keypoints`, or one of them, inside the stored image.
        upright: The EXIF orientation of the image, 1 … 8.
        size: Width and height of the stored image.
    """
    if upright == orientation.UPRIGHT:
        return places
    inverse = _inverse(orientation.matrix(upright, size))
    size = orientation.turned_size(size, upright)
    moves = {"boxes": _boxes, "keypoints": _keypoints}
    moved = {n: moves[n](np.asarray(v), inverse, size) for n, v in places.items()}
    return places | moved


def _inverse(matrix: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def _draw(
    image: Image.Image,
    matrix: np.ndarray,
    size: tuple[int, int],
    resampling: Image.Resampling,
    outside: int = 0,
) -> Image.Image:
    (a, b, c), (d, e, f) = matrix.tolist()
    if b or d:
        data = (a, b, c, d, e, f)
        affine = Image.Transform.AFFINE
        return image.transform(size, affine, data, resampling, fillcolor=outside)
    (left, right), (top, bottom) = (c, c + a * size[0]), (f, f + e * size[1])
    mirrored = a < 0, e < 0
    box = min(left, right), min(top, bottom), max(left, right), max(top, bottom)
    if (abs(a), abs(e)) == (1, 1) and all(side == round(side) for side in box):
        image = _cut(image, box, outside)
    else:
        # A rounding error may put the box a hair outside, which Pillow refuses.
        width, height = image.size
        x0, y0, x1, y1 = box
        box = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
        image = resizing.resized(image, size, resampling, box)
    return image.transpose(MIRRORS[mirrored]) if any(mirrored) else image


def _cut(image: Image.Image, box: Box, outside: int) -> Image.Image:
    """Cut out a box of whole pixels."""
    inside = min(box[:2]) >= 0 and box[2] <= image.width and box[3] <= image.height
    if inside or not outside:
        return image.crop(box)
    left, top, right, bottom = (round(side) for side in box)
    canvas = Image.new(image.mode, (right - left, bottom - top), outside)
    canvas.paste(image, (-left, -top))
    return canvas


def _boxes(boxes: np.ndarray, inverse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    corners = boxes.astype(np.float64)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    corners = corners @ inverse[:, :2].T + inverse[:, 2]
    moved = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    moved = np.clip(moved, 0, np.array([*size, *size]))
    filled = (boxes[:, 2:] > boxes[:, :2]).all(1) & (moved[:, 2:] > moved[:, :2]).all(1)
    return np.where(filled[:, None], moved, 0).astype(np.float32)


def _keypoints(
    keypoints: np.ndarray, inverse: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    places = keypoints[:, :2].astype(np.float64) @ inverse[:, :2].T + inverse[:, 2]
    inside = ((places >= 0) & (places <= np.array(size))).all(1)
    moved = np.concatenate([places, keypoints[:, 2:]], axis=1)
    seen = inside & (keypoints[:, 2] > 0)
    return np.where(seen[:, None], moved, 0).astype(np.float32)
