"""One image's comparison sheet: everything about it on one image."""

import functools
import pathlib
from collections.abc import Collection, Mapping
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from unlir_jax.core import extras
from unlir_jax.core.document_types import Document
from unlir_jax.report import overlay, words

with extras.needed("report"):
    # Its fonts alone: importing it takes longer than drawing all sheets.
    FONTS = extras.folder("matplotlib") / "mpl-data" / "fonts" / "ttf"

DPI = 100
MARGIN, GAP = 48, 28
HEADER, CAPTION, ROW = 124, 34, 34
BASIC = ImageFont.Layout.BASIC
Length = int | float
Weight = Literal["normal", "bold"]
INK, MUTED, RULE, ACCENT, CALM = "#1c1d21", "#6c6f7a", "#d9dbe1", "#2f55c7", "#aebbe6"


class Page:
    """Draw with pixels as the unit and the origin at the top left."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.canvas = Image.new("RGB", (width, height), "white")
        self.pen = ImageDraw.Draw(self.canvas)

    def image(self, left: int, top: int, image: Image.Image) -> None:
        self.canvas.paste(image, (left, top))

    def box(
        self, left: Length, top: Length, width: Length, height: Length, facecolor: str
    ) -> None:
        corners = (left, top, left + width, top + height)
        left, top, right, bottom = map(round, corners)
        if right > left and bottom > top:
            self.pen.rectangle((left, top, right - 1, bottom - 1), facecolor)

    def text(
        self,
        left: Length,
        top: Length,
        text: str,
        size: Length = 11,
        *,
        color: str = INK,
        weight: Weight = "normal",
        ha: Literal["left", "right"] = "left",
    ) -> None:
        """Write text whose middle is at `top`; `size` is in points."""
        font, anchor = _font(size, weight), {"left": "lm", "right": "rm"}[ha]
        self.pen.text((left, top), text, color, font, anchor)

    def render(self) -> Image.Image:
        return self.canvas


@functools.lru_cache(maxsize=32)
def _font(size: Length, weight: Weight) -> ImageFont.FreeTypeFont:
    file = FONTS / ("DejaVuSans-Bold.ttf" if weight == "bold" else "DejaVuSans.ttf")
    return ImageFont.truetype(file, size * DPI / 72, layout_engine=BASIC)


def sheet(
    picture: Image.Image,
    entry: Document,
    views: Mapping[str, overlay.View],
    subtitle: str,
) -> Image.Image:
    """Draw the comparison sheet of one image.

    Args:
        picture: The square that the network sees.
        entry: What `results.json` says of the image.
        views: By method, its map over the image and the image seen through it.
        subtitle: Network and layer.

    Returns:
        8-bit RGB: the image with its top classes, and for each method the overlay,
        the masked image and its probability; below, the scores with the controls.
    """
    large = overlay.enlarge(picture)
    side = large.width
    rows = len(entry["methods"]) + len(entry["controls"])
    panels = HEADER + 2 * (CAPTION + side)
    width = 2 * MARGIN + (side + GAP) * (1 + len(views)) - GAP
    page = Page(
        max(width, 940), panels + 150 + ROW * rows + 20 * bool(entry["controls"])
    )
    _header(page, entry, subtitle)
    _legends(page, {view.signed for view in views.values()})
    top, lower = HEADER + CAPTION, HEADER + 2 * CAPTION + side
    page.text(MARGIN, HEADER + CAPTION / 2, "As the network sees it", 12, weight="bold")
    page.image(MARGIN, top, large)
    _top_classes(page, entry, MARGIN, lower, side)
    for index, (name, view) in enumerate(views.items(), start=1):
        left = MARGIN + index * (side + GAP)
        title = words.method_title(name)
        page.text(left, HEADER + CAPTION / 2, title, 12, weight="bold")
        page.image(left, top, view.overlay)
        scores = entry["methods"][name]
        if scores["flat"]:
            right = left + side
            page.text(
                right, HEADER + CAPTION / 2, "flat map", 11, color="#b3261e", ha="right"
            )
        seen = words.percent(scores[words.SHOWN])
        caption = f"Seen through the map: {seen} %"
        page.text(left, lower - CAPTION / 2, caption, 11, color=MUTED)
        page.image(left, lower, view.masked)
    _table(page, entry, panels + 44)
    return page.render()


def _header(page: Page, entry: Document, subtitle: str) -> None:
    label = entry["label"]
    page.text(
        MARGIN, 46, short(pathlib.PurePath(entry["file"]).name, 60), 19, weight="bold"
    )
    line = (
        f"{label['name']}  {words.amount(label)}  ({label['source']})   ·   {subtitle}"
    )
    page.text(MARGIN, 82, line, 11.5, color=MUTED)


def _legends(page: Page, kinds: Collection[bool]) -> None:
    """Draw the colours of maps without a sign, and of maps with one, as there are."""
    for place, signed in enumerate(sorted(kinds)):
        legend(page, page.width - MARGIN - 192, 40 + 46 * place, 192, signed)


def legend(page: Page, left: int, top: int, width: int, signed: bool) -> None:
    """Draw the colours from the least to the most important pixel, or about zero."""
    colours = overlay.legend(64, signed=signed)
    step = width / len(colours)
    for index, colour in enumerate(colours):
        page.box(left + index * step, top, step + 0.5, 14, facecolor=colour)
    low, high = words.ENDS[signed]
    page.text(left, top + 30, low.split()[0], 9.5, color=MUTED)
    page.text(left + width, top + 30, high, 9.5, color=MUTED, ha="right")


def _top_classes(
    page: Page, entry: Document, left: Length, top: Length, side: Length
) -> None:
    page.text(left, top - CAPTION / 2, "Predicted classes", 11, color=MUTED)
    step = min(side / 6, 64)
    for index, guess in enumerate(entry["top5"]):
        y = top + 16 + index * step
        explained = guess["index"] == entry["label"]["index"]
        weight = "bold" if explained else "normal"
        page.text(left, y, short(guess["name"], 40), 11, weight=weight)
        page.text(left + side, y, words.amount(guess), 11, weight=weight, ha="right")
        page.box(left, y + 15, side, 6, facecolor="#eef0f5")
        length = max(side * (guess.get("probability") or 0), 1)
        colour = ACCENT if explained else CALM
        page.box(left, y + 15, length, 6, facecolor=colour)


def _table(page: Page, entry: Document, top: Length) -> None:
    right = min(page.width - MARGIN, MARGIN + 1400)
    step = (right - MARGIN) / 7.2
    edges = [right - step * (5 - index) for index in range(6)]
    titles = [f"{c.title} {words.arrow(m)}" for m, c in words.COLUMNS.items()]
    for edge, title in zip(edges, [*titles, "Masked"], strict=True):
        page.text(edge, top, title, 9.5, color=MUTED, ha="right")
    page.text(MARGIN, top, "Scores, per cent", 9.5, color=MUTED)
    best = {metric: words.best(metric, entry["methods"]) for metric in words.COLUMNS}
    y = top + 12
    for group in ("methods", "controls"):
        if not entry[group]:
            continue
        page.box(MARGIN, y + 8, right - MARGIN, 1, facecolor=RULE)
        y += 10
        for name, row in entry[group].items():
            y += ROW
            colour = INK if group == "methods" else MUTED
            page.text(MARGIN, y - 12, words.method_title(name), 11, color=colour)
            for edge, metric in zip(edges, [*words.COLUMNS, words.SHOWN], strict=True):
                marked = group == "methods" and name in best.get(metric, [])
                shown = ACCENT if marked else colour
                weight = "bold" if marked else "normal"
                text = words.percent(row[metric])
                page.text(
                    edge, y - 12, text, 11, color=shown, weight=weight, ha="right"
                )
    note = (
        "Best method in bold; ↑ higher is better, ↓ lower is better. Below the line: "
        "controls, computed without the network."
    )
    page.text(MARGIN, y + 34, note, 9.5, color=MUTED)


def short(text: str, length: int) -> str:
    """Keep the end of a long name, which tells files apart."""
    text = " ".join(text.split())
    return text if len(text) <= length else f"…{text[1 - length :]}"
