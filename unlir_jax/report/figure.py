"""Maps over images as one drawing, for notebooks and files."""

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unlir_jax import maps as map_arithmetic
from unlir_jax import saliency, split
from unlir_jax.report import overlay, sheet, words
from unlir_jax.storage import paths, staging
from unlir_jax.types import Images, Saliency

MARGIN, GAP, TITLE, LEGEND = 12, 12, 26, 40
SMALLEST_SIDE, LARGEST_SIDE = 96, 2048
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


class Figure(NamedTuple):
    """Hold a drawing that notebooks display.

    Attributes:
        image: 8-bit RGB.
        text: Description for readers who cannot see it.
    """

    image: Image.Image
    text: str

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the drawing to a `.png`, `.jpg` or `.webp` file.

        Raises:
            ValueError: Another suffix, a file that exists without `overwrite`, or a
                place that cannot be written to.
        """
        file = paths.check(path, "path")
        suffix = file.suffix.lower()
        if suffix not in FORMATS:
            raise ValueError(
                f"`path`={str(file)!r} ends with {suffix!r}; expected one of "
                f"{', '.join(FORMATS)}."
            )
        data = _encoded(self.image, FORMATS[suffix])
        try:
            staging.write_bytes(file, data, replace=overwrite)
        except FileExistsError as error:
            raise ValueError(
                f"`path`={str(file)!r} exists; expected a new file, or overwrite=True."
            ) from error
        return file

    def _repr_png_(self) -> bytes:
        return _encoded(self.image, "PNG")

    def _repr_html_(self) -> str:
        # As PNG: notebooks are read where WebP is not.
        tag = (
            '<img src="data:image/png;base64,{}" width="{}" height="{}" alt="{}" '
            'style="max-width:100%;height:auto">'
        )
        data = base64.b64encode(self._repr_png_()).decode("ascii")
        return tag.format(data, *self.image.size, html.escape(self.text))

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<{self.text} {width} × {height} pixels; .save(path) writes it.>"


def show(
    images: Images,
    maps: Saliency | Mapping[str, Saliency],
    *,
    titles: Sequence[str] = (),
    side: int = 224,
    columns: int | None = None,
) -> Figure:
    """Draw raw maps over their images: a row for each image, a column for each method.

    Maps are enlarged and normalised as metrics do; those with a sign are drawn about
    zero. A flat map shows the grey image.

    Args:
        images: `[batch, height, width, 3]` or `[…, 1]` in [0, 1].
        maps: Raw maps `[batch, rows, columns]`, or several of them by method; names of
            `saliency.METHODS` become their titles.
        titles: One title an image; by default "Image 1" and so on.
        side: Width of a panel in pixels, 96 to 2048.
        columns: Number of panels in a row, after which the methods of an image
            continue in the next row; by default all.

    Raises:
        TypeError: Images or maps that are not arrays of floating point.
        ValueError: A wrong shape, pixels outside [0, 1] or not finite, no map, another
            number of titles than images, or a size out of range.

    Example:
        >>> import numpy as np, unlir_jax
        >>> image, grad_cam = np.zeros((1, 64, 64, 3)), np.eye(7)[None]
        >>> unlir_jax.show(image, {"grad_cam": grad_cam}).image.size
        (484, 314)
    """
    named = dict(maps) if isinstance(maps, Mapping) else {"map": maps}
    _check(images, named, titles, side, columns)
    pictures = [_picture(image) for image in np.asarray(images, np.float32)]
    titles = titles or [f"Image {number + 1}" for number in range(len(pictures))]
    signed = {name: _signed(name, raw) for name, raw in named.items()}
    drawn = {
        name: overlay.views(pictures, raw, "relu" if signed[name] else None)
        for name, raw in named.items()
    }
    heads = [words.method_title(name) for name in named]
    width = side
    height = max(1, round(side * pictures[0].height / pictures[0].width))
    rows = []
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        over = [views[index].overlay for views in drawn.values()]
        panels = [(title, overlay.enlarge(picture)), *zip(heads, over, strict=True)]
        step = columns or len(panels)
        rows += [panels[at : at + step] for at in range(0, len(panels), step)]
    image = _draw(rows, width, height, sorted(set(signed.values())))
    count = f"{len(pictures)} image{'s' if len(pictures) > 1 else ''}"
    return Figure(image, f"{words.enumerate_names(heads)} on {count}.")


def _check(
    images: Images,
    named: Mapping[str, Saliency],
    titles: Sequence[str],
    side: int,
    columns: int | None,
) -> None:
    split.check_shapes(images, np.zeros(np.shape(images)[:1], np.int32))
    if images.shape[3] not in (1, 3):
        raise ValueError(
            f"`images` has shape {images.shape}; expected 1 or 3 channels to draw."
        )
    split.check_pixels(images)
    if not named:
        raise ValueError("`maps` is empty; expected raw maps, or some by method.")
    for raw in named.values():
        map_arithmetic.check_saliency(raw, images)
    if titles and len(titles) != len(images):
        raise ValueError(
            f"`titles` has {len(titles)} entries; expected one for each of the "
            f"{len(images)} images."
        )
    if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise ValueError(
            f"`side`={side}; expected {SMALLEST_SIDE} to {LARGEST_SIDE} pixels."
        )
    if columns is not None and columns < 1:
        raise ValueError(f"`columns`={columns}; expected at least 1.")


def _picture(image: np.ndarray) -> Image.Image:
    values = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(values, (*values.shape[:2], 3)).copy())


def _signed(name: str, raw: Saliency) -> bool:
    """Tell whether zero means nothing in a map, and signs mean for and against."""
    return saliency.is_signed(name) or bool(np.min(raw) < 0)


def _draw(
    rows: Sequence[Sequence[tuple[str, Image.Image]]],
    width: int,
    height: int,
    kinds: Sequence[bool],
) -> Image.Image:
    """Draw titled panels in rows, and what the colours of each kind of map mean."""
    across = max(map(len, rows))
    tall = TITLE + height + GAP
    page = sheet.Page(
        2 * MARGIN + across * (width + GAP) - GAP,
        2 * MARGIN + len(rows) * tall - GAP + LEGEND * len(kinds),
    )
    for row, panels in enumerate(rows):
        top = MARGIN + row * tall
        for column, (title, panel) in enumerate(panels):
            left = MARGIN + column * (width + GAP)
            # A letter is about 7 pixels wide.
            shown = sheet.short(title, max(width // 7, 2))
            page.text(left, top + TITLE / 2, shown, 9, weight="bold")
            resized = panel.resize((width, height), Image.Resampling.LANCZOS)
            page.image(left, top + TITLE, resized)
    for place, signed in enumerate(reversed(kinds), start=1):
        sheet.legend(page, MARGIN, page.height - LEGEND * place, 192, signed)
    return page.render()


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90)
    return buffer.getvalue()
