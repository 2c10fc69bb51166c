"""Change a large image strip by strip, so that there is little more than one."""

import tempfile
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from unlir_jax.data import orientation
from unlir_jax.data.budget import Budget, stored_bytes

Box = tuple[int, int, int, int]
# Pixels of a strip: an image of fewer is changed as a whole.
STRIP = 1 << 18


def boxes(size: tuple[int, int]) -> Iterator[Box]:
    """Give the strips of an image of some width and height, from the top."""
    width, height = size
    rows = max(STRIP // max(width, 1), 1)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def rebuilt(
    image: Image.Image,
    size: tuple[int, int],
    mode: str,
    change: Callable[[Box], Image.Image],
    budget: Budget,
) -> Image.Image:
    """Make an image of strips of another.

    Where there is no room for both, the strips wait in a temporary file, and `image` is
    closed before they are put together.

    Args:
        image: The image that `change` looks at.
        size: Width and height of the result.
        mode: That of the result.
        change: Makes the strip in a box of the result.
        budget: What both may take.
    """
    parts = list(boxes(size))
    both = stored_bytes(image.mode) + stored_bytes(mode)
    if budget.fits(both * size[0] * size[1]):
        made = Image.new(mode, size)
        for box in parts:
            made.paste(change(box), box)
        return made
    with tempfile.TemporaryFile() as spool:
        lengths = [spool.write(change(box).tobytes()) for box in parts]
        image.close()
        spool.seek(0)
        made = Image.new(mode, size)
        for box, length in zip(parts, lengths, strict=True):
            strip = box[2] - box[0], box[3] - box[1]
            made.paste(Image.frombytes(mode, strip, spool.read(length)), box)
    return made


def upright(image: Image.Image, turned: int | None, budget: Budget) -> Image.Image:
    """Turn a stored image upright, as `orientation.upright` does."""
    turned = turned or orientation.UPRIGHT
    double = 2 * stored_bytes(image.mode) * image.width * image.height
    if turned == orientation.UPRIGHT or image.palette or budget.fits(double):
        return orientation.upright(image, turned)
    back = orientation.matrix(turned, image.size)

    def change(box: Box) -> Image.Image:
        corners = np.reshape(box, (2, 2)) @ back[:, :2].T + back[:, 2]
        low, high = corners.min(0).astype(int), corners.max(0).astype(int)
        strip = image.crop((*low.tolist(), *high.tolist()))
        return orientation.upright(strip, turned)

    size = orientation.turned_size(image.size, turned)
    info = image.info
    made = rebuilt(image, size, image.mode, change, budget)
    made.info = info
    return made
