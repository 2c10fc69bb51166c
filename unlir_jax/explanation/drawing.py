"""Files and pieces of the page of one image: overlays, sheets, panels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unlir_jax.core.document_types import Document, Record
from unlir_jax.explanation import batches, measures
from unlir_jax.report import explanation_page, html, overlay, sheet
from unlir_jax.storage import files

if TYPE_CHECKING:  # Other networks need none of it, and it takes long to import.
    from unlir_jax.part_report import panels


def file_names(name: str, kinds: Sequence[str] | Document, tag: str = "") -> list[str]:
    """Name the files of an image: one for each kind, and the sheet last.

    Args:
        name: Name of the image.
        kinds: Methods, and what else is drawn.
        tag: Network or layer, where a report has several.
    """
    start = f"{name}__{tag}" if tag else name
    return [f"{start}__{kind}.png" for kind in (*kinds, "sheet")]


def overlays(
    batch: Sequence[batches.Picture],
    raw: Mapping[str, np.ndarray],
    methods: Sequence[str],
    signed: Sequence[str],
) -> dict[str, list[overlay.View]]:
    """Draw the maps of each method; copies that fill the batch are left out."""
    pictures = [picture.framed for picture in batch]
    shown = {name: raw[name][: len(batch)] for name in methods}
    return {
        name: overlay.views(pictures, each, measures.SIGNS if name in signed else None)
        for name, each in shown.items()
    }


def draw(
    folder: Path,
    picture: batches.Picture,
    entry: Record,
    views: Mapping[str, overlay.View],
    raw: Mapping[str, np.ndarray],
    by_parts: "panels.PartExplanation | None",
    subtitle: str,
    tag: str,
) -> html.Markup:
    """Write an image's files, name them in its entry, and give its piece of the page.

    Args:
        folder: Where files go.
        picture: The image.
        entry: What `results.json` says of it.
        views: By method, its map over the image and the image seen through it.
        raw: Raw maps by method.
        by_parts: Parts that decided, where the network decides by parts.
        subtitle: Network and layer.
        tag: Network or layer, where a report has several.
    """
    *names, last = file_names(picture.name, views, tag)
    for file, (name, view) in zip(names, views.items(), strict=True):
        files.write_png(folder / file, view.overlay)
        entry["methods"][name]["overlay"] = file
    entry["sheet"] = last
    drawn = sheet.sheet(picture.framed, entry, views, subtitle)
    files.write_png(folder / last, drawn)
    name = f"{picture.name}/{tag}" if tag else picture.name
    account = ""
    if by_parts is not None:
        decision, _ = file_names(picture.name, ["decision"], tag)
        account = _account(folder, picture, entry, by_parts, subtitle, decision, name)
    framed = picture.framed
    small = {c: overlay.small(framed, raw[c]) for c in entry["controls"]}
    return explanation_page.article(
        name, framed, entry, views, small, account, network=tag and subtitle
    )


def _account(
    folder: Path,
    picture: batches.Picture,
    entry: Record,
    by_parts: "panels.PartExplanation",
    subtitle: str,
    file: str,
    name: str,
) -> str:
    """Write the sheet of the parts that decided, and give their piece of the page."""
    from unlir_jax.report import part_panel, part_sheet

    entry["parts"] = by_parts.entry | {"sheet": file}
    drawn = part_sheet.sheet_of_decision(picture.framed, entry, by_parts, subtitle)
    files.write_png(folder / file, drawn)
    return part_panel.panel(
        name, by_parts.entry, by_parts.views, by_parts.regions, by_parts.sentence
    )
