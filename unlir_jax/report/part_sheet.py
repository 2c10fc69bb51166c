"""Parts on one image: what decided about an image, and what all parts look like."""

import pathlib
from collections.abc import Sequence
from typing import Any

from PIL import Image

from unlir_jax.core.document_types import Document, Record
from unlir_jax.report import part_panel, sheet, words
from unlir_jax.report.sheet import ACCENT, INK, MARGIN, MUTED, RULE, Length, Page

VIEW, CROP, GAP = 132, 108, 8
SIDE, BAR, LEDGER = 336, 210, 30
NEGATIVE = "#d1495b"
TRACK = "#eef0f5"
# Of the gallery.
LABEL, SMALL, PER_ROW = 236, 96, 8


def sheet_of_decision(
    picture: Image.Image, entry: Document, told: Any, subtitle: str
) -> Image.Image:
    """Draw which parts decided about an image, and why for no other class.

    Args:
        picture: The square that the network sees.
        entry: What `results.json` says of the image, with `parts` in it.
        told: See `part_panels.Told`.
        subtitle: Network and layer.
    """
    shown, contrast = told.entry["shown"], told.entry["contrast"]
    ledger = part_panel.lines(told.entry)
    left = MARGIN + SIDE + 40
    crops = max((len(images) for images in told.regions.values()), default=0)
    width = left + VIEW + 16 + BAR + 16 + crops * (CROP + GAP) + MARGIN
    top = 130
    rows = top + 24 + len(shown) * (VIEW + 14)
    below = top + SIDE + 40 + LEDGER * (len(ledger) + 1)
    under = max(rows, below) + 40
    page = Page(max(width, 1000), under + 60 + len(contrast["shown"]) * 38 + 60)
    name = pathlib.PurePath(entry["file"]).name
    page.text(MARGIN, 46, sheet.short(name, 60), 19, weight="bold")
    label = entry["label"]
    line = (
        f"{label['name']}  {words.amount(label)}  ({label['source']})   ·   {subtitle}"
    )
    page.text(MARGIN, 82, line, 11.5, color=MUTED)
    page.image(MARGIN, top, picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    _ledger(page, ledger, label["name"], top + SIDE + 40)
    page.text(
        left, top + 6, "Which parts, where, and how much each adds", 12, weight="bold"
    )
    most = part_panel.largest(told.entry)
    for number, part in enumerate(shown):
        y = top + 24 + number * (VIEW + 14)
        _row(page, part, told, left, y, most)
    _contrast(page, label["name"], contrast, under)
    return page.render()


def _ledger(page: Page, lines: Sequence[Any], name: str, top: int) -> None:
    right = MARGIN + SIDE
    page.text(MARGIN, top, "The sum, to the last part", 12, weight="bold")
    for number, (title, amount) in enumerate(lines, 1):
        y = top + number * LEDGER
        last = number == len(lines)
        if last:
            page.box(MARGIN, y - LEDGER / 2, SIDE, 1, facecolor=INK)
            title = f"= logit of {sheet.short(name, 26)}"
        style: Record = {"weight": "bold"} if last else {"color": INK}
        page.text(MARGIN, y, title, 10.5, **style)
        page.text(right, y, part_panel.signed(amount), 10.5, ha="right", **style)


def _row(
    page: Page, part: Document, told: Any, left: int, top: int, most: float
) -> None:
    view = told.views[part["part"]].resize((VIEW, VIEW), Image.Resampling.LANCZOS)
    page.image(left, top, view)
    x, middle = left + VIEW + 16, top + VIEW / 2
    page.text(x, middle - 26, part_panel.part_title(part), 11.5, weight="bold")
    amount = part_panel.signed(part["contribution"])
    page.text(x + BAR, middle - 26, amount, 11.5, weight="bold", ha="right")
    _bar(page, x, middle - 8, BAR, part["contribution"] / most)
    if not part["seen"]:
        page.text(x, middle + 20, "hardly seen here", 10, color=MUTED)
    for number, crop in enumerate(told.regions.get(part["part"], ())):
        crop = crop.resize((CROP, CROP), Image.Resampling.LANCZOS)
        place = x + BAR + 16 + number * (CROP + GAP)
        page.image(place, top + (VIEW - CROP) // 2, crop)


def _contrast(page: Page, name: str, contrast: Document, top: int) -> None:
    rival = contrast["class"]["name"]
    page.box(MARGIN, top - 26, page.width - 2 * MARGIN, 1, facecolor=RULE)
    title = f"Why {sheet.short(name, 40)} and not {sheet.short(rival, 40)}"
    page.text(MARGIN, top, title, 12, weight="bold")
    most = part_panel.largest(contrast)
    for number, part in enumerate(contrast["shown"], 1):
        y = top + number * 38
        page.text(MARGIN, y, part_panel.part_title(part), 11)
        _bar(page, MARGIN + 180, y - 5, 420, part["contribution"] / most)
        amount = part_panel.signed(part["contribution"])
        page.text(MARGIN + 670, y, amount, 11, weight="bold", ha="right")
    *_, others, bias, total = part_panel.lines(contrast)
    y = top + (len(contrast["shown"]) + 1) * 38
    line = (
        f"{others[0]} {part_panel.signed(others[1])}, difference of the biases "
        f"{part_panel.signed(bias[1])}: together {part_panel.signed(total[1])}"
    )
    page.text(MARGIN, y, line, 10.5, color=MUTED)


def _bar(page: Page, left: Length, top: Length, width: Length, share: float) -> None:
    page.box(left, top, width, 9, facecolor=TRACK)
    length = max(abs(share) * width / 2, 1)
    middle = left + width / 2
    colour = ACCENT if share >= 0 else NEGATIVE
    page.box(
        middle if share >= 0 else middle - length, top, length, 9, facecolor=colour
    )
    page.box(middle, top - 2, 1, 13, facecolor=MUTED)


def sheet_of_parts(
    title: str,
    subtitle: str,
    rows: Sequence[tuple[str, Sequence[str], Sequence[Image.Image]]],
) -> Image.Image:
    """Draw all parts with their best regions, in two columns where they are many.

    Args:
        title: Whose parts.
        subtitle: Further information.
        rows: For each part its name, up to three lines about it, and crops.
    """
    columns = 2 if len(rows) > 10 else 1
    deep = -(-len(rows) // columns) if rows else 0
    step = SMALL + 12
    column = LABEL + PER_ROW * (SMALL + GAP)
    page = Page(
        2 * MARGIN + columns * column + (columns - 1) * 40, 130 + deep * step + 30
    )
    page.text(MARGIN, 46, sheet.short(title, 80), 19, weight="bold")
    page.text(MARGIN, 82, subtitle, 11.5, color=MUTED)
    for number, (name, about, crops) in enumerate(rows):
        left = MARGIN + (number // deep) * (column + 40)
        top = 120 + (number % deep) * step
        page.text(left, top + 16, name, 12, weight="bold")
        for line, text in enumerate(about):
            page.text(left, top + 40 + 19 * line, text, 9, color=MUTED)
        for place, crop in enumerate(crops[:PER_ROW]):
            small = crop.resize((SMALL, SMALL), Image.Resampling.LANCZOS)
            page.image(left + LABEL + place * (SMALL + GAP), top, small)
    return page.render()
